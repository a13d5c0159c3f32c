package prove

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

const (
	// shortFailovers is how many faults of the store a plain test run makes.
	shortFailovers = 2
	// recoveryMax is the bound with -prove.bounds: how long after the store accepts writes
	// again a request may find a replica that does not serve.
	recoveryMax = lease + 2*time.Second
	// mostAway is how long the store is away at most, beside the time that it needs to stop
	// and start: some leases outlast that, others do not.
	mostAway = 3 * lease
	// unchanged is how many versions are used and never revoked.
	unchanged = 8
	// calm is for how long nothing may be refused before the store has recovered: longer
	// than any lease that was gained before.
	calm = lease + lease/2
	// calmTimeout is after how long of refusals the proof gives up.
	calmTimeout = 2 * time.Minute
)

// TestFailover restarts and kills PostgreSQL, and fails over to its synchronous standby,
// while all replicas are used and versions are revoked. No answer is wrong, every refusal
// says UNAVAILABLE, what a call has revoked stays revoked, and the replicas recover.
func TestFailover(t *testing.T) {
	random := newRandom(t)
	n := count(shortFailovers)
	store := newStorePair(t)
	d := deploy(t, store.dsn, false)
	p := &revocationProof{deployment: d, random: random, strictly: true, recovered: make(map[fault][]time.Duration)}
	for i := range n {
		p.plan = append(p.plan, trial{kms.ActionRevokeVersion, storeFaults[i%len(storeFaults)]})
	}
	p.targets = makeTargets(t, d, n+unchanged)
	p.aim(0)
	p.load = startLoad(t, d, p.unwrap)
	for i, trial := range p.plan {
		p.aim(i)
		p.failover(t, store, p.targets[i], trial, random)
	}
	p.load.stop()
	d.stopAll(t)

	p.load.report(t, d)
	p.problems.report(t)
	p.judge(t)
	worst := p.reportRecovery(t)
	closing(t, "prove-failover: ok, %d faults of the store, 0 wrong answers, 0 late uses, recovery within %v",
		n, rounded(worst))
}

// failover lets the store suffer a fault while a version is revoked, and waits until no
// replica refuses anything any more.
func (p *revocationProof) failover(t *testing.T, store *storePair, of *target, trial trial, random *rand.Rand) {
	t.Helper()
	r := p.replicas[random.IntN(len(p.replicas))]
	before := time.Duration(random.Int64N(int64(200 * time.Millisecond)))
	after := time.Duration(random.Int64N(int64(lease)))
	away := time.Duration(random.Int64N(int64(mostAway)))
	var call sync.WaitGroup
	defer call.Wait()
	call.Go(func() {
		pause(t.Context(), after)
		p.change(t.Context(), of, trial, r)
	})
	pause(t.Context(), before)
	store.suffer(t, trial.fault, away)
	back := bootTime()
	for {
		last := max(back, time.Duration(p.lastRefused.Load()))
		if bootTime()-last > calm {
			p.recovered[trial.fault] = append(p.recovered[trial.fault], last-back)
			break
		}
		if bootTime()-back > calmTimeout || !pause(t.Context(), 20*time.Millisecond) {
			t.Fatalf("%s: requests are refused still", trial.fault)
		}
	}
	call.Wait()
	store.repair(t)
}

// reportRecovery tells how long requests were refused, and returns the longest.
func (p *revocationProof) reportRecovery(t *testing.T) (worst time.Duration) {
	t.Helper()
	took := make(map[fault]time.Duration)
	for _, c := range changesOf(p.targets) {
		took[c.fault] = max(took[c.fault], c.took)
	}
	for _, f := range storeFaults {
		list := p.recovered[f]
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		longest := list[len(list)-1]
		worst = max(worst, longest)
		t.Logf("%s: %d times; refusals until p50 %v, at most %v after the store was back; longest revocation %v",
			f, len(list), rounded(percentile(list, 50)), rounded(longest), rounded(took[f]))
		if given.bounds && longest > recoveryMax {
			t.Errorf("%s: refusals until %v after the store was back, want at most %v", f, longest, recoveryMax)
		}
	}
	return worst
}
