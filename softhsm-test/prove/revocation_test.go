package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

const (
	// shortRevocations is how many a plain test run makes.
	shortRevocations = 15
	// The bounds with -prove.bounds.
	liveP99  = 100 * time.Millisecond
	faultMax = lease + 500*time.Millisecond // a process that was killed holds its lease until that has expired
	// liveGap is the mean time between two changes while all replicas live.
	liveGap = 250 * time.Millisecond
	// callTimeout is the deadline of one attempt of a change, changeTimeout of all.
	callTimeout   = 10 * time.Second
	changeTimeout = time.Minute
)

// The versions that the load uses at a time: some whose use has ended, and some of which
// it is about to.
const (
	usedAfter  = 4
	usedBefore = 12
	// hotShare is the share of the unary requests for the version that is changed now.
	hotShare = 0.5
)

// TestRevocation revokes and disables key versions at random moments while all replicas
// are used, and some of them are stopped, killed, or cut off from the store. Once a call
// has returned, no request that is sent is served under the version, and no final check
// is passed under it.
func TestRevocation(t *testing.T) {
	random := newRandom(t)
	revocations := count(shortRevocations)
	plan := newPlan(revocations, random)
	cluster := pgtest.Start(t)
	d := deploy(t, cluster.DSN(cluster.NewDatabase(t)), true)
	p := &revocationProof{deployment: d, plan: plan, random: random}
	p.targets = makeTargets(t, d, len(plan))
	p.aim(0)
	p.load = startLoad(t, d, p.unwrap)
	p.run(t)
	pause(t.Context(), time.Second) // a late use would come now
	p.load.stop()
	d.stopAll(t)

	p.load.report(t, d)
	p.problems.report(t)
	p.judge(t)
	times := p.reportTimes(t)
	closing(t, "prove-revocation: ok, %d revocations, 0 late uses, p99 %.1f ms", revocations,
		float64(percentile(times[noFault], 99).Microseconds())/1000)
}

// trial is one change of a plan.
type trial struct {
	action kms.Action
	fault  fault
}

// newPlan makes n revocations and a third as many disables, of all of which a fifth
// happens under faults, in random order.
func newPlan(n int, random *rand.Rand) []trial {
	plan := make([]trial, n+n/3)
	for i := range plan {
		plan[i] = trial{kms.ActionRevokeVersion, noFault}
		if i >= n {
			plan[i].action = kms.ActionDisableVersion
		}
	}
	shuffle := func() { random.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] }) }
	shuffle()
	each, next := max(1, n/15), 0
	for _, f := range faults {
		for range min(each, len(plan)-next) {
			plan[next].fault = f
			next++
		}
	}
	shuffle()
	return plan
}

// revocationProof is the state of the proof.
type revocationProof struct {
	*deployment
	plan     []trial
	random   *rand.Rand // of the goroutine that runs the plan
	targets  []*target  // one for each trial
	load     *load
	problems problems
	// strictly: no replica is disturbed, so each refusal has the code UNAVAILABLE.
	strictly bool

	inUse atomic.Pointer[[]*target]
	hot   atomic.Pointer[target]

	recovered map[fault][]time.Duration // of the goroutine that runs the plan

	// lastRefused is when the last request was sent that found no replica serving, by bootTime.
	lastRefused atomic.Int64
}

// versionsPerKey is how many targets are versions of one key.
const versionsPerKey = 8

// keysPerTarget is how many data keys are wrapped under a target.
const keysPerTarget = 16

// makeTargets makes key versions, each of which has wrapped some data keys.
func makeTargets(t *testing.T, d *deployment, n int) []*target {
	t.Helper()
	began := time.Now()
	targets := make([]*target, n)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(len(d.replicas))
	for first := 0; first < n; first += versionsPerKey {
		group.Go(func() error {
			name, err := kms.NewKeyName(d.parent, fmt.Sprintf("target-%d", first))
			if err != nil {
				return err
			}
			api := d.replicas[first/versionsPerKey%len(d.replicas)].control
			for i := first; i < min(first+versionsPerKey, n); i++ {
				if targets[i], err = makeTarget(ctx, api, name, i == first); err != nil {
					return fmt.Errorf("version %d of %s: %w", i-first+1, name, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("made %d key versions in %v", n, time.Since(began).Round(time.Millisecond))
	return targets
}

func makeTarget(ctx context.Context, api kms.API, name kms.KeyName, first bool) (*target, error) {
	made := &target{}
	if first {
		if _, err := api.CreateKey(ctx, kms.Principal{}, &kms.CreateKeyRequest{Name: name}); err != nil {
			return nil, err
		}
		made.version = name.Version(1)
	} else {
		rotated, err := api.RotateKey(ctx, kms.Principal{}, &kms.RotateKeyRequest{Name: name})
		if err != nil {
			return nil, err
		}
		made.version = rotated.Version.Name
	}
	var err error
	if made.keys, err = generate(ctx, api, name, keysPerTarget); err != nil {
		return nil, err
	}
	for _, k := range made.keys {
		if k.version != made.version {
			return nil, fmt.Errorf("made under %s, want %s", k.version, made.version)
		}
	}
	return made, nil
}

// aim directs the load at the targets around the i-th.
func (p *revocationProof) aim(i int) {
	inUse := p.targets[max(0, i-usedAfter):min(len(p.targets), i+usedBefore)]
	p.inUse.Store(&inUse)
	p.hot.Store(p.targets[i])
}

// unwrap is the operation of the load.
func (p *revocationProof) unwrap(ctx context.Context, r *replica, count *tally, random *rand.Rand, items int) {
	inUse := *p.inUse.Load()
	chosen := make([]*target, items)
	from := random.IntN(len(inUse))
	for i := range chosen {
		// Neighbours of one target share an item of the audit record.
		chosen[i] = inUse[(from+i*len(inUse)/items)%len(inUse)]
	}
	if items == 1 && random.Float64() < hotShare {
		chosen[0] = p.hot.Load()
	}
	request := &kms.UnwrapDataKeysRequest{Parent: p.parent, Items: make([]kms.DataKeyItem, items)}
	keys := make([]dataKey, items)
	for i, c := range chosen {
		keys[i] = c.keys[random.IntN(len(c.keys))]
		request.Items[i].Wrapped = keys[i].wrapped
	}
	sent := bootTime()
	results, err := r.load.UnwrapDataKeys(ctx, kms.Principal{}, request)
	if err != nil {
		count.add(reason(err), items)
		p.refused(r, sent, err)
		return
	}
	for i := range results {
		count.add(reason(results[i].Err), 1)
		p.outcome(r, chosen[i], use{sent: sent, replica: r.name, items: 1}, &results[i], keys[i].plain)
	}
}

// outcome notes what became of one item.
func (p *revocationProof) outcome(r *replica, of *target, u use, result *kms.DataKeyResult, want string) {
	switch err := result.Err; {
	case err == nil && string(result.DataKey) != want:
		p.problems.add("%s: %v: %s", r.name, errWrongAnswer, of.version)
	case err == nil:
		of.used(u)
	case errors.Is(err, kms.ErrTokenRefused):
		u.walled = true
		of.used(u)
	case errors.Is(err, kms.ErrVersionRevoked), errors.Is(err, kms.ErrVersionDisabled):
		if !of.begun.Load() {
			p.problems.add("%s: %s was refused before anybody asked for that: %v", r.name, of.version, err)
		}
	default:
		p.refused(r, u.sent, fmt.Errorf("%s: %w", of.version, err))
	}
}

// refused notes a refusal that has nothing to do with the state of a version.
func (p *revocationProof) refused(r *replica, sent time.Duration, err error) {
	if !isUnavailable(err) || p.strictly && code(err) != codes.Unavailable {
		p.problems.add("%s: a request failed: %v", r.name, err)
		return
	}
	for last := p.lastRefused.Load(); last < int64(sent); last = p.lastRefused.Load() {
		if p.lastRefused.CompareAndSwap(last, int64(sent)) {
			return
		}
	}
}

// run works through the plan.
func (p *revocationProof) run(t *testing.T) {
	t.Helper()
	p.recovered = make(map[fault][]time.Duration)
	var live sync.WaitGroup
	defer live.Wait()
	for i, trial := range p.plan {
		p.aim(i)
		if trial.fault == noFault {
			pause(t.Context(), time.Duration(p.random.ExpFloat64()*float64(liveGap)))
			r := p.replicas[p.random.IntN(len(p.replicas))]
			live.Go(func() { p.change(t.Context(), p.targets[i], trial, r) })
			continue
		}
		live.Wait()
		p.disturbed(t, p.targets[i], trial)
		if t.Failed() {
			return
		}
	}
}

// disturbed makes a change under a fault, and heals it. A third of the faults begin while
// the call is under way.
func (p *revocationProof) disturbed(t *testing.T, of *target, trial trial) {
	t.Helper()
	b := newDisturbance(p.deployment, trial.fault, p.random)
	r := b.survivors[p.random.IntN(len(b.survivors))]
	var call sync.WaitGroup
	if p.random.IntN(3) == 0 {
		delay := time.Duration(p.random.Int64N(int64(20 * time.Millisecond)))
		call.Go(func() { p.change(t.Context(), of, trial, r) })
		pause(t.Context(), delay)
		if err := b.begin(); err != nil {
			t.Fatal(err)
		}
	} else {
		if err := b.begin(); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), time.Duration(p.random.Int64N(int64(lease+lease/5))))
		call.Go(func() { p.change(t.Context(), of, trial, r) })
	}
	call.Wait()
	pause(t.Context(), time.Duration(p.random.Int64N(int64(lease/2))))
	began := time.Now()
	b.heal(t)
	if err := p.awaitHealthy(t.Context()); err != nil {
		t.Fatalf("after %s (%s): %v", trial.fault, trial.action, err)
	}
	p.recovered[trial.fault] = append(p.recovered[trial.fault], time.Since(began))
}

// change ends the use of a target, and repeats the call as long as it is told to.
func (p *revocationProof) change(ctx context.Context, of *target, trial trial, r *replica) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	made := &change{action: trial.action, fault: trial.fault, replica: r.name, repeats: make(map[string]int)}
	of.begun.Store(true)
	began := bootTime()
	for {
		result, err := changeState(ctx, r.control, trial.action, of.version)
		made.returned = bootTime()
		if err == nil {
			made.took, made.spread = made.returned-began, result.Spread
			of.ended(made)
			return
		}
		again := errors.Is(err, kms.ErrStillSpreading) || isUnavailable(err)
		if !again || !pause(ctx, 10*time.Millisecond) {
			p.problems.add("%s of %s on %s with %s: %v", trial.action, of.version, r.name, trial.fault, err)
			return
		}
		made.repeats[reason(err)]++
	}
}

func changeState(ctx context.Context, api kms.API, action kms.Action, name kms.VersionName) (*kms.StateChange, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if action == kms.ActionDisableVersion {
		return api.DisableKeyVersion(ctx, kms.Principal{}, name, "a proof")
	}
	return api.RevokeKeyVersion(ctx, kms.Principal{}, &kms.RevokeRequest{
		Name: name, Reason: "a proof", DataLossAccepted: true,
	})
}

// judge compares what clients and servers did with when the calls had returned.
func (p *revocationProof) judge(t *testing.T) {
	t.Helper()
	if done := len(changesOf(p.targets)); done != len(p.plan) {
		t.Errorf("%d of %d changes were made", done, len(p.plan))
	}
	clients := judgeClients(p.targets)
	t.Logf("clients: %d items were served of versions that were changed; sent after the call had returned: %d served, %d stopped by the token only",
		clients.served, clients.late, clients.walled)
	if clients.late > 0 || clients.walled > 0 {
		t.Errorf("clients: %d late uses, %d stopped by the token only, such as %+v", clients.late, clients.walled, clients.first)
	}
	judge := newServerJudge(changesOf(p.targets))
	for _, r := range p.replicas {
		before := judge.serverVerdict
		if err := readRecords(r.auditFile(), judge.add); err != nil {
			t.Fatal(err)
		}
		t.Logf("records of %s: %d final checks, %d items served of versions that were changed; later than the call's return: %d; final checks without knowing of a change whose call had returned: %d",
			r.name, judge.checks-before.checks, judge.served-before.served, judge.late-before.late, judge.stale-before.stale)
		if judge.served == before.served {
			t.Errorf("%s has no record of any use: nothing is shown", r.name)
		}
	}
	if judge.late > 0 || judge.stale > 0 {
		t.Errorf("records: %d late uses, %d late checks under old metadata, such as %+v", judge.late, judge.stale, judge.first)
	}
}

// reportTimes tells how long the calls took, and returns that by fault, sorted.
func (p *revocationProof) reportTimes(t *testing.T) map[fault][]time.Duration {
	t.Helper()
	times := make(map[fault][]time.Duration)
	repeats := make(map[fault]map[string]int)
	slowest := make(map[fault]*change)
	for _, c := range changesOf(p.targets) {
		class := c.class()
		if s := slowest[class]; s == nil || c.took > s.took {
			slowest[class] = c
		}
		times[class] = append(times[class], c.took)
		for why, n := range c.repeats {
			if repeats[class] == nil {
				repeats[class] = make(map[string]int)
			}
			repeats[class][why] += n
		}
	}
	for _, f := range classes {
		list := times[f]
		if len(list) == 0 {
			continue
		}
		slices.Sort(list)
		t.Logf("%s: %d calls, p50 %v, p99 %v, maximum %v; repeated: %s", f, len(list), rounded(percentile(list, 50)),
			rounded(percentile(list, 99)), rounded(list[len(list)-1]), listed(repeats[f]))
		s := slowest[f]
		t.Logf("%s: the slowest, on %s at revision %d, spent %v of %v on waiting for the others; acknowledged by %v, expired %v",
			f, s.replica, s.spread.Revision, rounded(s.spread.Took), rounded(s.took), s.spread.Acknowledged, s.spread.Expired)
		if healed := p.recovered[f]; len(healed) > 0 {
			slices.Sort(healed)
			t.Logf("%s: all served again after p50 %v, maximum %v", f, rounded(percentile(healed, 50)), rounded(healed[len(healed)-1]))
		}
		if !given.bounds {
			continue
		}
		if p99 := percentile(list, 99); f == noFault && p99 > liveP99 {
			t.Errorf("%s: p99 %v, want at most %v", f, p99, liveP99)
		}
		if worst := list[len(list)-1]; f != noFault && worst > faultMax {
			t.Errorf("%s: maximum %v, want at most %v", f, worst, faultMax)
		}
	}
	return times
}

// percentile is that of a sorted list, by the nearest rank.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func rounded(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
