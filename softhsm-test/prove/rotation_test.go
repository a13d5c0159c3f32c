package prove

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

const (
	// shortRotations is how many a plain test run makes.
	shortRotations = 20
	// rotationPeriod is that of the keys that the service rotates by itself.
	rotationPeriod = kms.MinRotationPeriod
	// handGap is the mean time between two rotations by hand.
	handGap = 200 * time.Millisecond
	// handKeys and periodKeys are how many keys there are of each kind.
	handKeys, periodKeys = 4, 5
	// retryPause is the time before the one repetition of a request that failed.
	retryPause = 50 * time.Millisecond
	// periodsWaited bounds the wait for rotations by period, in periods beyond those needed.
	periodsWaited = 30
)

// TestRotation rotates keys, by hand and by period, while all replicas are used. What is
// wrapped anywhere after a rotation has returned is wrapped under the version that it
// named, or a later one if there was a rotation since; and of the requests none fails twice.
func TestRotation(t *testing.T) {
	random := newRandom(t)
	rotations := count(shortRotations)
	cluster := pgtest.Start(t)
	d := deploy(t, cluster.DSN(cluster.NewDatabase(t)), false)
	p := newRotationProof(t, d)
	p.load = startLoad(t, d, p.request)
	p.byHand(t, rotations-rotations/2, random)
	p.awaitPeriods(t, rotations/2)
	p.load.stop()
	p.endPeriods(t)
	p.readVersions(t)
	d.stopAll(t)

	p.load.report(t, d)
	p.problems.report(t)
	if p.uncured > 0 {
		t.Logf("%d requests found two replicas without a lease", p.uncured)
	}
	byPeriod := p.judge(t)
	times := make([]time.Duration, len(p.changes))
	for i, c := range p.changes {
		times[i] = c.took
	}
	slices.Sort(times)
	closing(t, "prove-rotation: ok, %d rotations (%d by hand, %d by period), %d failures that one retry cured, p99 %.1f ms",
		len(times)+byPeriod, len(times), byPeriod, p.cured, float64(percentile(times, 99).Microseconds())/1000)
}

// rotatedKey is a key that is rotated, and what became known of that.
type rotatedKey struct {
	name     kms.KeyName
	byPeriod bool
	versions []*kms.VersionInfo // at the end

	mu        sync.Mutex
	rotations []rotation // by hand
	seals     []seal
	made      []dataKey // some of them, for unwrapping
}

// rotation is a call, and the version that it named.
type rotation struct {
	began, returned time.Duration // by bootTime
	number          uint32
}

// seal is a request that wrapped data keys.
type seal struct {
	sent, got time.Duration // by bootTime
	replica   string
	number    uint32 // of the version that they were wrapped under
}

// rotationProof is the state of the proof.
type rotationProof struct {
	*deployment
	keys     []*rotatedKey
	load     *load
	problems problems

	mu      sync.Mutex
	changes []*change // rotations by hand
	// How many requests and rotations failed once, and twice.
	cured, uncured int
}

func newRotationProof(t *testing.T, d *deployment) *rotationProof {
	t.Helper()
	p := &rotationProof{deployment: d}
	for i := range handKeys + periodKeys {
		key := &rotatedKey{byPeriod: i >= handKeys}
		id, period := fmt.Sprintf("by-hand-%d", i), time.Duration(0)
		if key.byPeriod {
			id, period = fmt.Sprintf("by-period-%d", i), rotationPeriod
		}
		var err error
		if key.name, err = kms.NewKeyName(d.parent, id); err != nil {
			t.Fatal(err)
		}
		request := &kms.CreateKeyRequest{Name: key.name, RotationPeriod: period}
		if _, err := d.replicas[0].control.CreateKey(t.Context(), kms.Principal{}, request); err != nil {
			t.Fatal(err)
		}
		p.keys = append(p.keys, key)
	}
	for _, r := range d.replicas { // a new key may be known later to others than a rotation
		for _, key := range p.keys {
			_, err := r.awaitServing(t.Context(), func(ctx context.Context, r *replica) error {
				_, err := generate(ctx, r.control, key.name, 1)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return p
}

// request is the operation of the load: it wraps new data keys, or unwraps some that were
// made before. One that fails is repeated once, on another replica.
func (p *rotationProof) request(ctx context.Context, r *replica, count *tally, random *rand.Rand, items int) {
	key := p.keys[random.IntN(len(p.keys))]
	known := key.some(random, items)
	attempt := func(r *replica) error { return p.wrap(ctx, r, key, items) }
	if len(known) == items && random.IntN(2) == 0 {
		attempt = func(r *replica) error { return p.unwrap(ctx, r, known) }
	}
	first := attempt(r)
	if first == nil {
		count.add(outcomeOK, items)
		return
	}
	count.add(reason(first), items)
	pause(ctx, retryPause)
	other := p.replicas[(r.index+1)%len(p.replicas)]
	p.repeated(attempt(other), first, "%s and %s: a request on %s", r.name, other.name, key.name)
}

// repeated counts what became of the one repetition of something that failed.
func (p *rotationProof) repeated(second, first error, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case second == nil:
		p.cured++
	case isUnavailable(first) && isUnavailable(second) && !given.bounds:
		p.uncured++ // a machine that does something else can stand still for longer than a lease
	default:
		p.problems.add("%s failed twice: %v; %v", fmt.Sprintf(format, args...), first, second)
	}
}

// keptKeys bounds the data keys that are kept of each key.
const keptKeys = 2048

// some chooses data keys that were made before; none if there are not enough.
func (k *rotatedKey) some(random *rand.Rand, items int) []dataKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.made) < items {
		return nil
	}
	chosen := make([]dataKey, items)
	for i := range chosen {
		chosen[i] = k.made[random.IntN(len(k.made))]
	}
	return chosen
}

func (p *rotationProof) wrap(ctx context.Context, r *replica, key *rotatedKey, items int) error {
	sent := bootTime()
	made, err := generate(ctx, r.load, key.name, items)
	if err != nil {
		return err
	}
	got := bootTime()
	key.mu.Lock()
	defer key.mu.Unlock()
	for i := range made {
		if made[i].version.Key() != key.name {
			p.problems.add("%s: %s was asked for, and %s answered", r.name, key.name, made[i].version)
		}
		if i == 0 || made[i].version != made[i-1].version {
			key.seals = append(key.seals, seal{sent, got, r.name, made[i].version.Number()})
		}
	}
	if len(key.made) >= keptKeys {
		key.made = key.made[len(key.made)/2:]
	}
	key.made = append(key.made, made...)
	return nil
}

func (p *rotationProof) unwrap(ctx context.Context, r *replica, keys []dataKey) error {
	request := &kms.UnwrapDataKeysRequest{Parent: p.parent, Items: make([]kms.DataKeyItem, len(keys))}
	for i := range keys {
		request.Items[i].Wrapped = keys[i].wrapped
	}
	results, err := r.load.UnwrapDataKeys(ctx, kms.Principal{}, request)
	if err != nil {
		return err
	}
	for i := range results {
		switch {
		case results[i].Err != nil:
			return results[i].Err
		case string(results[i].DataKey) != keys[i].plain:
			p.problems.add("%s: %v: %s", r.name, errWrongAnswer, keys[i].version)
		case results[i].Version != keys[i].version:
			p.problems.add("%s: wrapped under %s, unwrapped under %s", r.name, keys[i].version, results[i].Version)
		}
	}
	return nil
}

// byHand rotates keys at random moments on random replicas; some calls overlap.
func (p *rotationProof) byHand(t *testing.T, n int, random *rand.Rand) {
	t.Helper()
	var calls sync.WaitGroup
	for range n {
		pause(t.Context(), time.Duration(random.ExpFloat64()*float64(handGap)))
		key, r := p.keys[random.IntN(handKeys)], p.replicas[random.IntN(len(p.replicas))]
		calls.Go(func() { p.rotate(t.Context(), key, r) })
	}
	calls.Wait()
}

func (p *rotationProof) rotate(ctx context.Context, key *rotatedKey, r *replica) {
	request := &kms.RotateKeyRequest{Name: key.name, RequestID: uuid.NewString()}
	began := bootTime()
	result, err := r.control.RotateKey(ctx, kms.Principal{}, request)
	if err != nil {
		pause(ctx, retryPause)
		first := err
		r = p.replicas[(r.index+1)%len(p.replicas)]
		result, err = r.control.RotateKey(ctx, kms.Principal{}, request)
		if p.repeated(err, first, "a rotation of %s", key.name); err != nil {
			return
		}
	}
	returned := bootTime()
	key.mu.Lock()
	key.rotations = append(key.rotations, rotation{began, returned, result.Version.Name.Number()})
	key.mu.Unlock()
	p.mu.Lock()
	p.changes = append(p.changes, &change{
		action: kms.ActionRotateKey, replica: r.name, took: returned - began, returned: returned, spread: result.Spread,
	})
	p.mu.Unlock()
}

// awaitPeriods waits until there were so many rotations by period, of all keys together.
func (p *rotationProof) awaitPeriods(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n/periodKeys+periodsWaited)*rotationPeriod)
	defer cancel()
	for {
		made := 0
		for _, key := range p.keys[handKeys:] {
			info, err := p.replicas[0].control.GetKey(ctx, kms.Principal{}, key.name)
			if err == nil {
				made += int(info.Primary) - 1
			}
		}
		if made >= n {
			return
		}
		if !pause(ctx, rotationPeriod/10) {
			t.Fatalf("only %d rotations by period of %d", made, n)
		}
	}
}

// endPeriods ends the rotations by period, and waits until the last is known everywhere and
// recorded.
func (p *rotationProof) endPeriods(t *testing.T) {
	t.Helper()
	byHand := time.Duration(0)
	for _, key := range p.keys[handKeys:] {
		request := &kms.UpdateKeyRequest{Name: key.name, RotationPeriod: &byHand}
		if _, err := p.replicas[0].control.UpdateKey(t.Context(), kms.Principal{}, request); err != nil {
			t.Fatal(err)
		}
	}
	pause(t.Context(), 2*lease)
}

// readVersions reads what versions there are at the end.
func (p *rotationProof) readVersions(t *testing.T) {
	t.Helper()
	for _, key := range p.keys {
		page := kms.Page{Size: kms.MaxPageSize}
		for {
			list, err := p.replicas[0].control.ListKeyVersions(t.Context(), kms.Principal{}, key.name, page)
			if err != nil {
				t.Fatal(err)
			}
			key.versions = append(key.versions, list.Versions...)
			if page.Token = list.NextToken; page.Token == "" {
				break
			}
		}
	}
}

// judge compares what was wrapped when with the rotations, and returns how many of those
// were by period.
func (p *rotationProof) judge(t *testing.T) (byPeriod int) {
	t.Helper()
	sortChanges(p.changes)
	judge := newServerJudge(p.changes)
	scheduled := make(map[string][]time.Time) // by key: when rotations by period were recorded
	for _, r := range p.replicas {
		err := readRecords(r.auditFile(), func(rec *record) {
			judge.add(rec)
			if rec.Action == string(kms.ActionRotateKey) && rec.Method == methodSystem && rec.Outcome == outcomeOK {
				scheduled[rec.Resource] = append(scheduled[rec.Resource], rec.Time)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("records: %d final checks, of them %d without knowing of a rotation that had returned", judge.checks, judge.stale)
	if judge.stale > 0 {
		t.Errorf("records: %d late checks under old metadata, such as %+v", judge.stale, judge.first)
	}
	seals, after := 0, 0
	for _, key := range p.keys {
		times := scheduled[key.name.String()]
		slices.SortFunc(times, time.Time.Compare)
		byPeriod += len(times)
		if err := key.judge(times); err != nil {
			t.Errorf("%s: %v", key.name, err)
		}
		seals += len(key.seals)
		for _, s := range key.seals {
			if s.number > 1 {
				after++
			}
		}
	}
	t.Logf("clients: %d requests wrapped data keys, %d of them under a version that a rotation had made", seals, after)
	if after == 0 {
		t.Error("nothing was wrapped after a rotation: nothing is shown")
	}
	return byPeriod
}

// judge checks each request that wrapped something against the rotations of the key, of
// which those by period are known by when they were recorded, which is after they have returned.
func (k *rotatedKey) judge(recorded []time.Time) error {
	if k.byPeriod {
		for i, at := range recorded {
			k.rotations = append(k.rotations, rotation{returned: atBoot(at), number: uint32(i) + 2})
		}
		if err := k.judgePeriods(len(recorded)); err != nil {
			return err
		}
	}
	var problems []error
	for _, s := range k.seals {
		least, most := uint32(1), uint32(1)
		for _, r := range k.rotations {
			if r.returned <= s.sent {
				least = max(least, r.number)
			}
			if r.began < s.got {
				most = max(most, r.number)
			}
		}
		if s.number < least || s.number > most {
			problems = append(problems, fmt.Errorf("%s wrapped under version %d, want %d to %d: sent at %v, answered at %v",
				s.replica, s.number, least, most, s.sent, s.got))
		}
	}
	if len(problems) > problemsShown {
		problems = append(problems[:problemsShown], fmt.Errorf("and %d more", len(problems)-problemsShown))
	}
	return errors.Join(problems...)
}

// judgePeriods checks that a key was rotated by one replica at a time: never sooner than
// its period after the last time.
func (k *rotatedKey) judgePeriods(recorded int) error {
	if made := len(k.versions) - 1; recorded < made {
		return fmt.Errorf("%d rotations by period, and %d records of them", made, recorded)
	}
	for i := 1; i < len(k.versions); i++ {
		if apart := k.versions[i].CreateTime.Sub(k.versions[i-1].CreateTime); apart < rotationPeriod {
			return fmt.Errorf("version %d was made %v after the one before, sooner than the period", i+1, apart)
		}
	}
	return nil
}

// atBoot is a time of the wall clock by bootTime.
func atBoot(at time.Time) time.Duration { return bootTime() - time.Since(at) }
