//go:build !race

package lease

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// completely is the depth of an exploration without a limit.
const completely = -1

// TestThePromiseHolds explores what may happen, in parts: all faults of one replica
// completely, the rest as deep as time allows. See also the flag lease.depth.
func TestThePromiseHolds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		scenario scenario
		depth    int
	}{
		{"one replica, clocks of different rates, expired rows removed",
			scenario{replicas: 1, changes: 1, ticks: 5, split: true, slowClocks: true, sweep: true}, completely},
		{"transactions that commit late", scenario{replicas: 1, changes: 1, ticks: 3, split: true, late: true}, completely},
		{"fail-over", scenario{replicas: 1, changes: 1, ticks: 3, failOver: true}, completely},
		{"fail-over, a longer lease", scenario{replicas: 1, changes: 1, ticks: 5, serving: true, failOver: true}, 20},
		{"leaving", scenario{replicas: 1, changes: 1, ticks: 5, leave: true}, completely},
		{"two changes", scenario{replicas: 1, changes: 2, ticks: 3, serving: true, sweep: true}, 14},
		{"two replicas", scenario{replicas: 2, changes: 1, ticks: 3, serving: true}, 13},
		{"two replicas, one makes the change", scenario{replicas: 2, changes: 1, ticks: 3, serving: true, insider: true}, 13},
		{"three replicas", scenario{replicas: 3, changes: 1, ticks: 3, serving: true}, 10},
		{"leases that are given up", scenario{replicas: 1, changes: 1, ticks: 5, split: true, doubt: true}, completely},
		{"leases that are given up, and fail-over",
			scenario{replicas: 1, changes: 1, ticks: 3, failOver: true, doubt: true}, completely},
		{"a change that the store may lose", scenario{replicas: 1, changes: 1, ticks: 3, lossy: true, sweep: true}, completely},
		{"a change that may be lost, and another",
			scenario{replicas: 1, changes: 2, unwaited: 1, ticks: 2, serving: true, lossy: true}, 16},
		{"a change that may be lost, and another, a longer lease",
			scenario{replicas: 1, changes: 2, unwaited: 1, ticks: 5, serving: true, lossy: true, prompt: true}, completely},
		{"a change that may be lost, and another, leases that are given up",
			scenario{replicas: 1, changes: 2, unwaited: 1, ticks: 5, serving: true, lossy: true, doubt: true}, 13},
		{"changes that may be lost, and nobody waits for, leases that are given up",
			scenario{replicas: 1, changes: 2, unwaited: 2, ticks: 5, serving: true, lossy: true, doubt: true}, completely},
		{"two replicas, and a change that may be lost, and another",
			scenario{replicas: 2, changes: 2, unwaited: 1, ticks: 3, serving: true, lossy: true, doubt: true}, 9},
		{"two replicas and everything but losses", scenario{
			replicas: 2, changes: 1, ticks: 3, serving: true,
			split: true, late: true, failOver: true, doubt: true, slowClocks: true, leave: true, sweep: true,
		}, 8},
		{"one replica and everything but losses", scenario{
			replicas: 1, changes: 1, ticks: 5,
			split: true, late: true, failOver: true, doubt: true, slowClocks: true, leave: true, sweep: true,
		}, 13},
		{"one replica and everything with losses", scenario{
			replicas: 1, changes: 2, ticks: 5,
			split: true, late: true, lossy: true, doubt: true, slowClocks: true, leave: true, sweep: true,
		}, 11},
	}
	var ran, states, transitions, complete int
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := tt.scenario.explore(depthOf(tt.depth))
			t.Log(x)
			if x.err != nil {
				t.Fatal("the protocol does not keep its promise")
			}
			tt.scenario.checkReach(t, x)
			ran, states, transitions = ran+1, states+x.states, transitions+x.transitions
			if x.complete {
				complete++
			}
		})
	}
	if ran == len(tests) {
		documented(t, fmt.Sprintf("%d scenarios, %d of them completely: %d states and %d transitions",
			ran, complete, states, transitions))
	}
}

// documented logs what was found, and fails if the package's documentation says otherwise.
func documented(t *testing.T, what string) {
	t.Helper()
	t.Log(what)
	if *depthFlag != 0 || t.Failed() {
		return
	}
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	if prose := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "//", " ")), " "); !strings.Contains(prose, what) {
		t.Errorf("doc.go does not say %q", what)
	}
}

// depthOf applies the flag.
func depthOf(depth int) int {
	if depth != completely {
		depth += *depthFlag
	}
	return depth
}

// checkReach fails a complete exploration in which something that may happen never did:
// a model that is stuck breaks no promise.
func (s *scenario) checkReach(t *testing.T, x *exploration) {
	if !x.complete {
		return
	}
	waited := s.unwaited < s.changes
	possible := map[stepName]bool{
		stepSlowTick: s.slowClocks, stepFailOver: s.failOver, stepReadFormer: s.failOver, stepReadHead: s.split,
		stepLeaveLate: s.late, stepCommitLate: s.late, stepStop: s.leave, stepRemoveRow: s.leave, stepSweep: s.sweep,
		stepCommitMissing: s.leave || s.sweep || s.lossy, stepReceive: s.lossy, stepLoss: s.lossy, stepCommitRefused: s.lossy,
		stepGiveUpLease: s.doubt, stepExamine: s.doubt, stepSeen: s.doubt,
		stepAsk: waited, stepRead: waited, stepObserve: waited, stepReturn: waited,
	}
	for name := range stepNames {
		if may, named := possible[name]; (may || !named) && x.steps[name] == 0 {
			t.Errorf("never seen: %v", step{name: name})
		} else if named && !may && x.steps[name] > 0 {
			t.Errorf("not of this scenario, but seen: %v", step{name: name})
		}
	}
	for f := fateAcknowledged; f <= fateGone; f++ {
		if waited && x.fates[f] == 0 {
			t.Errorf("no call returned with a lease of fate %d", f)
		}
	}
	if x.servedAfter == 0 {
		t.Error("no replica serves after the change")
	}
}

// TestCallsReturn bounds the longest wait, in ticks, for a caller that reads once a tick
// from a store that answers within a tick. The bounds are exact: one tick less is broken.
func TestCallsReturn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		scenario scenario
		bound    func(ticks int) int
	}{
		{"replicas that fall silent", scenario{silent: true}, func(ticks int) int { return ticks + marginTicks + 1 }},
		{"replicas that do anything", scenario{}, func(ticks int) int { return 2 * ticks }},
		{"replicas that do anything, by slower clocks", scenario{slowClocks: true, split: true},
			func(ticks int) int { return 2*ticks + 1 }},
		{"replicas that give up leases", scenario{doubt: true}, func(ticks int) int { return 2 * ticks }},
		{"replicas that fall silent, and a store that loses renewals", scenario{silent: true, lossy: true},
			func(ticks int) int { return 2*(ticks+marginTicks) + 1 }},
		{"replicas that do anything, and a store that loses renewals", scenario{lossy: true},
			func(ticks int) int { return 3*ticks + 1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, ticks := range []int{3, 4} {
				s := tt.scenario
				s.replicas, s.changes, s.ticks, s.prompt, s.bound = 1, 1, ticks, true, tt.bound(ticks)
				x := s.explore(completely)
				t.Logf("a lease of %d ticks, a bound of %d: %v", ticks, s.bound, x)
				if x.err != nil {
					t.Fatal("a call does not return in time")
				}
				s.bound--
				if x = s.explore(completely); !errors.Is(x.err, errViolation) {
					t.Errorf("a bound of %d ticks holds too: the other one says too little", s.bound)
				}
			}
		})
	}
}

// TestMutationsAreFound gets the protocol wrong in each way that it must not be, and
// demands the sequence of steps that shows it. Leases of 5 ticks, because renewing only
// when not behind alone keeps the promise for shorter ones under several mutations.
func TestMutationsAreFound(t *testing.T) {
	t.Parallel()
	const (
		lateUse = "passes a final check"
		heldOn  = "still holds a result"
		noEnd   = "has not returned"
		givenUp = "has given up its lease"
		notDone = "has seen the store go backwards"
		wrongly = "thinks that the store went backwards"
	)
	// lost: a change may be lost, and another is made and waited for; or nobody waits.
	lost := scenario{changes: 2, unwaited: 1, serving: true, lossy: true}
	doubtful := scenario{changes: 2, unwaited: 2, serving: true, lossy: true, doubt: true}
	tests := []struct {
		name     string
		scenario scenario
		mutation mutation
		want     string
	}{
		{"no margin, and the lease counts from the confirmation", scenario{serving: true},
			mutation{noMargin: true, sentAfterCommit: true}, lateUse},
		{"no margin between clocks of different rates", scenario{serving: true, slowClocks: true},
			mutation{noMargin: true}, lateUse},
		{"renewal while behind", scenario{prompt: true, bound: 10}, mutation{renewWhileBehind: true}, noEnd},
		{"serving before caught up", scenario{}, mutation{serveBeforeCatchUp: true}, lateUse},
		{"the joining transaction reads the revision", scenario{split: true}, mutation{headOfTheJoin: true}, lateUse},
		{"acknowledging what is applied", scenario{serving: true}, mutation{acknowledgeApplied: true}, heldOn},
		{"joining with operations of the lease before", scenario{}, mutation{catchUpApplied: true}, lateUse},
		{"a clock reading from before the confirmation", scenario{serving: true}, mutation{staleConfirmation: true}, lateUse},
		{"the final check asks for the lease first", scenario{serving: true}, mutation{leaseBeforeState: true}, lateUse},
		{"rows timed from before the reading", scenario{serving: true}, mutation{readingBefore: true}, lateUse},
		{"rows timed until after the reading", scenario{serving: true}, mutation{readingAfter: true}, lateUse},
		{"expiry seen at a former primary", scenario{serving: true, failOver: true}, mutation{unconfirmedExpiry: true}, lateUse},
		{"rows read without the change", scenario{failOver: true}, mutation{anyHead: true}, lateUse},
		{"renewals not noticed", scenario{serving: true}, mutation{counterIgnored: true}, lateUse},
		{"a row removed before serving ends", scenario{serving: true, leave: true}, mutation{removeBeforeStop: true}, lateUse},
		{"a late join takes the row of a newer one", scenario{late: true}, mutation{lateJoinReplaces: true}, lateUse},
		{"renewing in a store that has lost what is applied", lost, mutation{uncheckedRenewal: true}, heldOn},
		{"joining in a store that has lost what is applied", lost, mutation{uncheckedJoin: true}, heldOn},
		{"counters that count on from the row", scenario{serving: true, lossy: true, prompt: true}, mutation{countOn: true}, lateUse},
		{"not giving up in doubt", scenario{serving: true, doubt: true}, mutation{keepLease: true}, givenUp},
		{"not giving up when a renewal is refused", lost, mutation{keepLease: true}, givenUp},
		{"a renewal that revives what was given up", scenario{serving: true, doubt: true}, mutation{renewalRevives: true}, givenUp},
		{"giving up forgets what was seen", doubtful, mutation{giveUpForgets: true}, notDone},
		{"a lower revision that is seen is nothing", doubtful, mutation{seenIgnored: true}, notDone},
		{"a lower revision that is seen is not for good", doubtful, mutation{seenForgotten: true}, notDone},
		{"a lower revision that a renewal reads is not for good", doubtful, mutation{backwardsForgotten: true}, notDone},
		{"a revision seen at a former primary", scenario{failOver: true, doubt: true}, mutation{unconfirmedSeen: true}, wrongly},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.scenario
			s.replicas, s.changes, s.ticks = 1, max(1, s.changes), 5
			s.mutation = tt.mutation
			x := s.explore(completely)
			t.Log(x)
			if !errors.Is(x.err, errViolation) || !strings.Contains(x.err.Error(), tt.want) {
				t.Fatalf("found %v, want a state in which something %q", x.err, tt.want)
			}
		})
	}
	documented(t, fmt.Sprintf("%d mutations", len(tests)))
}

// TestTheExceptionIsNeeded: in a store that has lost renewals the promise does not hold of
// the leases that they renewed. Nobody has a way to know of them.
func TestTheExceptionIsNeeded(t *testing.T) {
	s := scenario{
		replicas: 1, changes: 1, ticks: 5, serving: true, lossy: true, prompt: true, mutation: mutation{noException: true},
	}
	x := s.explore(completely)
	t.Log(x)
	if !errors.Is(x.err, errViolation) {
		t.Error("the promise holds without an exception: the documentation says too little")
	}
}
