package prove

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

const (
	// shortKills is how many a plain test run makes, on both stores together.
	shortKills = 18
	// killWithin is how long after the requests were sent the server is killed at most.
	// A destruction begins by itself, up to an errand's pause after its request.
	killWithin, killWithinDestruction = 15 * time.Millisecond, 45 * time.Millisecond
	// startKillWithin is how long after its start a server is killed at most, of which
	// one in startKills is.
	startKillWithin, startKills = 400 * time.Millisecond, 6
	// firstStartKills is how often the first start is killed.
	firstStartKills = 2
	// atOnce is how many changes are under way when the server is killed.
	atOnce = 2
	// keysInUse is how many keys are changed at a time: to have more, some are created.
	keysInUse = 6
	// crashCallTimeout is how long a change may take.
	crashCallTimeout = 20 * time.Second
)

// TestCrash kills the server with SIGKILL while it changes keys, starts it again, and
// compares what it then holds with what was acknowledged: every change that was is there;
// one that was not is there in whole, or not at all. What SoftHSM2 loses when it is killed
// is counted, and must be named.
func TestCrash(t *testing.T) {
	random := newRandom(t)
	total := count(shortKills)
	kills, lost, cut := 0, 0, make(map[crashKind]int)
	for _, share := range []struct {
		database string
		kills    int
	}{{onSQLite, total - total/2}, {onPostgres, total / 2}} {
		t.Run(share.database, func(t *testing.T) {
			p := newCrashProof(t, share.database, random)
			for p.kills < share.kills {
				p.round(t, crashKinds[p.rounds%len(crashKinds)])
			}
			p.end(t)
			kills, lost = kills+p.kills, lost+p.lost
			for kind, n := range p.cut {
				cut[kind] += n
			}
		})
	}
	for _, kind := range slices.Sorted(maps.Keys(cut)) {
		t.Logf("cut short: %3d of %s", cut[kind], kind)
	}
	closing(t, "prove-crash: ok, %d kills, 0 acknowledged changes lost, %d objects lost by SoftHSM and named", kills, lost)
}

// crashProof is the state of the proof on one store.
type crashProof struct {
	*lone
	random *rand.Rand
	token  hsm.Token // seen from outside
	keys   []*crashKey

	rounds, kills int
	created       int               // names of keys used up
	acknowledged  map[string]int    // changes by action and resource, as in the records
	cut           map[crashKind]int // changes that were not acknowledged
	whole         int               // of those, such that were made all the same
	lost          int               // objects of versions that SoftHSM2 has lost
	anchors       int               // the same of the anchor
}

func newCrashProof(t *testing.T, database string, random *rand.Rand) *crashProof {
	t.Helper()
	p := &crashProof{lone: newLone(t, database), random: random}
	p.cut, p.acknowledged = make(map[crashKind]int), make(map[string]int)
	p.token = p.outside(t)
	for range firstStartKills { // while it makes the store, the seal key and the anchors
		p.start(t)
		p.kill(t, startKillWithin)
	}
	p.begin(t)
	return p
}

// round makes some changes that are acknowledged, cuts others short, starts the server
// again, and looks.
func (p *crashProof) round(t *testing.T, kind crashKind) {
	t.Helper()
	p.rounds++
	p.do(t, p.possible(t, crashKinds[p.random.IntN(len(crashKinds))], nil))
	deeds := p.choose(t, kind)
	p.strike(t, deeds)
	p.restart(t)
	p.verify(t, deeds)
}

// do makes a change that is acknowledged.
func (p *crashProof) do(t *testing.T, d *deed) {
	t.Helper()
	if err := patiently(t.Context(), func() error { return p.call(t.Context(), d) }); err != nil {
		t.Fatalf("%s of %s: %v", d.kind, d.key.name, err)
	}
	p.settle(d)
	p.wrap(t, d.key)
}

// possible returns a change of the kind, having made it possible.
func (p *crashProof) possible(t *testing.T, kind crashKind, busy []*crashKey) *deed {
	t.Helper()
	if kind == doCreate {
		return p.creation(t)
	}
	usable := 0
	for _, key := range p.keys {
		if !key.retired && !slices.Contains(busy, key) {
			usable++
		}
	}
	if usable == 0 {
		p.do(t, p.creation(t))
	}
	d := kind.choose(p.keys, busy, p.random)
	for ; d == nil; d = kind.choose(p.keys, busy, p.random) {
		p.do(t, p.possible(t, kind.needs(), busy))
	}
	return d
}

// creation is that of a new key. Of those before, all but some are left alone from then on.
func (p *crashProof) creation(t *testing.T) *deed {
	t.Helper()
	p.created++
	key := &crashKey{name: p.keyName(t, fmt.Sprintf("key-%d", p.created)), profile: kms.ProfileDerived}
	if p.random.IntN(4) == 0 {
		key.profile = kms.ProfileStrict
	}
	p.keys = append(p.keys, key)
	if len(p.keys) > keysInUse {
		p.keys[len(p.keys)-1-keysInUse].retired = true
	}
	return &deed{kind: doCreate, key: key, id: uuid.NewString(), after: picture{kms.StateEnabled}}
}

// choose returns what is to be under way when the server is killed: a change of the kind
// that it is the turn of, and others.
func (p *crashProof) choose(t *testing.T, kind crashKind) []*deed {
	t.Helper()
	var deeds []*deed
	var busy []*crashKey
	for len(deeds) < atOnce {
		d := p.possible(t, kind, busy)
		deeds, busy = append(deeds, d), append(busy, d.key)
		kind = crashKinds[p.random.IntN(len(crashKinds))]
	}
	return deeds
}

// strike begins the changes and kills the server meanwhile. Those that were acknowledged
// all the same are entered as done.
func (p *crashProof) strike(t *testing.T, deeds []*deed) {
	t.Helper()
	outcomes := make([]error, len(deeds))
	var calls sync.WaitGroup
	within := killWithin
	for i, d := range deeds {
		if d.kind == doDestroy {
			within = killWithinDestruction
		}
		calls.Go(func() { outcomes[i] = p.call(t.Context(), d) })
	}
	p.kill(t, within)
	calls.Wait()
	for i, d := range deeds {
		switch err := outcomes[i]; {
		case err == nil:
			p.settle(d)
		case errors.Is(err, kms.ErrInvalidRequest), errors.Is(err, kms.ErrTransition), errors.Is(err, kms.ErrDataLoss):
			t.Fatalf("%s of %s: %v", d.kind, d.key.name, err)
		default:
			p.cut[d.kind]++
		}
	}
}

// kill kills the server some time from now.
func (p *crashProof) kill(t *testing.T, within time.Duration) {
	t.Helper()
	pause(t.Context(), time.Duration(p.random.Int64N(int64(within))))
	if err := p.replica.kill(); err != nil {
		t.Fatal(err)
	}
	p.kills++
}

// restart starts the server again; now and then it is killed while it starts.
func (p *crashProof) restart(t *testing.T) {
	t.Helper()
	p.start(t)
	if p.random.IntN(startKills) == 0 {
		p.kill(t, startKillWithin)
		p.start(t)
	}
	p.await(t)
}

// settle enters a change as done.
func (p *crashProof) settle(d *deed) {
	p.acknowledged[d.record()]++
	d.key.picture = d.after
	for len(d.key.versions) < len(d.after) {
		d.key.versions = append(d.key.versions, crashVersion{})
	}
}

// call makes the request for a change.
func (p *crashProof) call(ctx context.Context, d *deed) error {
	ctx, cancel := context.WithTimeout(ctx, crashCallTimeout)
	defer cancel()
	const reason = "prove-crash"
	caller, version := kms.Principal{}, d.name()
	var err error
	switch d.kind {
	case doCreate:
		_, err = p.load.CreateKey(ctx, caller, &kms.CreateKeyRequest{Name: d.key.name, Profile: d.key.profile, RequestID: d.id})
	case doRotate:
		_, err = p.load.RotateKey(ctx, caller, &kms.RotateKeyRequest{Name: d.key.name, RequestID: d.id})
	case doRestrict:
		_, err = p.load.RotateKey(ctx, caller,
			&kms.RotateKeyRequest{Name: d.key.name, RequestID: d.id, RestrictPrevious: true, Reason: reason})
	case doDisable:
		_, err = p.load.DisableKeyVersion(ctx, caller, version, reason)
	case doEnable:
		_, err = p.load.EnableKeyVersion(ctx, caller, version, reason)
	case doRevoke:
		_, err = p.load.RevokeKeyVersion(ctx, caller, &kms.RevokeRequest{Name: version, Reason: reason, DataLossAccepted: true})
	case doSchedule:
		_, err = p.load.ScheduleKeyVersionDestruction(ctx, caller,
			&kms.DestructionRequest{Name: version, Reason: reason, DataLossAccepted: true, Window: time.Hour})
	case doDestroy:
		_, err = p.load.ScheduleKeyVersionDestruction(ctx, caller,
			&kms.DestructionRequest{Name: version, Reason: reason, DataLossAccepted: true, Window: time.Millisecond})
	case doRestore:
		_, err = p.load.RestoreKeyVersion(ctx, caller, version, reason)
	}
	return err
}

// wrap wraps a data key under the primary version, if that can be used and has none yet.
func (p *crashProof) wrap(t *testing.T, key *crashKey) {
	t.Helper()
	last := len(key.picture) - 1
	if last < 0 || key.picture[last] != kms.StateEnabled || key.versions[last].lost || len(key.versions[last].data) > 0 {
		return
	}
	var made []dataKey
	err := patiently(t.Context(), func() (err error) {
		made, err = generate(t.Context(), p.control, key.name, 1)
		return err
	})
	if err != nil {
		t.Fatalf("wrapping under %s: %v", key.name, err)
	}
	if made[0].version != key.name.Version(uint32(last+1)) {
		t.Errorf("%s wraps under %s, and version %d is primary", key.name, made[0].version, last+1)
	}
	key.versions[last].data = made
}

// verify compares what the server holds with what is known. deeds are those of which some
// were cut short.
func (p *crashProof) verify(t *testing.T, deeds []*deed) {
	t.Helper()
	seen := p.look(t)
	for _, key := range p.keys {
		p.verifyKey(t, key, seen, deeds)
	}
	p.verifyToken(t, seen)
	for _, key := range p.keys {
		p.wrap(t, key)
	}
	p.keys = slices.DeleteFunc(p.keys, func(key *crashKey) bool { return len(key.picture) == 0 })
	p.unwrapAll(t)
	if t.Failed() {
		t.FailNow()
	}
}

// sight is what there is after a start.
type sight struct {
	storeID  string
	keys     map[kms.KeyName]*kms.KeyInfo
	versions map[kms.KeyName][]*kms.VersionInfo
	objects  map[hsm.UID]hsm.Object
	findings []string
	orphans  []*kms.OrphanInfo
}

// look reads everything, once all destructions that are due are done.
func (p *crashProof) look(t *testing.T) *sight {
	t.Helper()
	s := &sight{findings: p.findings(t)}
	for !p.readKeys(t, s) {
		if !pause(t.Context(), 20*time.Millisecond) {
			t.Fatal("destructions that are due are not done")
		}
	}
	report, err := p.control.VerifyStore(t.Context(), kms.Principal{})
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("the store: %v, problems %q", err, report.Problems)
	}
	s.storeID = report.StoreID
	if s.orphans, err = p.control.ListOrphans(t.Context(), kms.Principal{}); err != nil {
		t.Fatal(err)
	}
	objects, err := p.token.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.objects = make(map[hsm.UID]hsm.Object, len(objects))
	for _, o := range objects {
		s.objects[o.UID] = o
	}
	return s
}

// readKeys reads all keys and versions, and reports whether no destruction is due.
func (p *crashProof) readKeys(t *testing.T, s *sight) (quiet bool) {
	t.Helper()
	s.keys, s.versions = make(map[kms.KeyName]*kms.KeyInfo), make(map[kms.KeyName][]*kms.VersionInfo)
	list, err := p.control.ListKeys(t.Context(), kms.Principal{}, p.parent, kms.Page{Size: kms.MaxPageSize})
	if err != nil || list.NextToken != "" {
		t.Fatalf("%v, or too many keys", err)
	}
	quiet = true
	for _, key := range list.Keys {
		versions, err := p.control.ListKeyVersions(t.Context(), kms.Principal{}, key.Name, kms.Page{Size: kms.MaxPageSize})
		if err != nil {
			t.Fatal(err)
		}
		s.keys[key.Name], s.versions[key.Name] = key, versions.Versions
		for _, v := range versions.Versions {
			quiet = quiet && (v.State != kms.StateDestroyScheduled || v.DestroyTime.After(time.Now()))
		}
	}
	return quiet
}

// verifyKey holds a key against what is known of it, and takes over what was not known.
func (p *crashProof) verifyKey(t *testing.T, key *crashKey, s *sight, deeds []*deed) {
	t.Helper()
	var seen picture
	for _, v := range s.versions[key.name] {
		seen = append(seen, v.State)
	}
	allowed := []picture{key.picture}
	for _, d := range deeds {
		if d.key == key {
			allowed = append(allowed, d.after) // the same again if it was acknowledged
		}
	}
	if !slices.ContainsFunc(allowed, func(want picture) bool { return slices.Equal(want, seen) }) {
		t.Errorf("%s: the states are %v, and one of %v was acknowledged or begun", key.name, seen, allowed)
		return
	}
	if info := s.keys[key.name]; info != nil && int(info.Primary) != len(seen) {
		t.Errorf("%s: the primary version is %d, and the last is %d", key.name, info.Primary, len(seen))
	}
	if !slices.Equal(key.picture, seen) {
		p.whole++
	}
	key.picture = seen
	for len(key.versions) < len(seen) {
		key.versions = append(key.versions, crashVersion{})
	}
}

// verifyToken holds the token's objects against the versions: each has the one that it
// should, or its loss is named, and there is no other.
func (p *crashProof) verifyToken(t *testing.T, s *sight) {
	t.Helper()
	named := make(map[hsm.UID]bool)
	for _, key := range p.keys {
		for i, v := range s.versions[key.name] {
			named[v.UID] = true
			object, there := s.objects[v.UID]
			missing := strings.Contains(v.Unavailable, "missing from the token")
			switch {
			case v.State == kms.StateDestroyed:
				if there {
					t.Errorf("%s is DESTROYED, and its object is there", v.Name)
				}
			case !there && missing && s.names(v.Name):
				if !key.versions[i].lost {
					key.versions[i].lost, key.retired = true, true
					p.lost++
				}
			case !there:
				t.Errorf("%s is %s without an object, and that is not named: %q", v.Name, v.State, v.Unavailable)
			case v.Unavailable != "":
				t.Errorf("%s is %s, its object is there, and it is unavailable: %s", v.Name, v.State, v.Unavailable)
			case object.Usable != (v.State == kms.StateEnabled || v.State == kms.StateRewrapOnly):
				t.Errorf("%s is %s, and its object is usable: %v", v.Name, v.State, object.Usable)
			}
		}
	}
	for _, o := range s.orphans {
		t.Errorf("the object %s is an orphan", o.UID)
		named[o.UID] = true
	}
	anchored := false
	for uid, o := range s.objects {
		anchored = anchored || strings.HasPrefix(o.Label, "keyholt-anchor:"+s.storeID+":")
		if strings.HasPrefix(o.Label, "keyholt:"+s.storeID+":") && !named[uid] {
			t.Errorf("no version and no list of orphans names the object %s", uid)
		}
	}
	if !anchored {
		t.Error("the token holds no anchor of the store")
	}
	for _, finding := range s.findings {
		if strings.Contains(finding, "nothing was noted in the token object") {
			p.anchors++
		}
	}
}

// names reports whether the findings say that the object of a version is missing.
func (s *sight) names(name kms.VersionName) bool {
	return slices.ContainsFunc(s.findings, func(finding string) bool {
		return strings.Contains(finding, name.String()+":") && strings.Contains(finding, "missing from the token")
	})
}

// unwrapAll unwraps a data key of each version: it comes out of those that are ENABLED, and
// of no others.
func (p *crashProof) unwrapAll(t *testing.T) {
	t.Helper()
	for _, key := range p.keys {
		for i, version := range key.versions[:len(key.picture)] {
			for _, data := range version.data {
				err := p.unwrap(t.Context(), data)
				state := key.picture[i]
				wants := state == kms.StateEnabled && !version.lost
				if wants && err != nil || !wants && (err == nil || !refusals(state, version.lost, err)) {
					t.Errorf("a data key of %s, which is %s (object lost: %v): %v", data.version, state, version.lost, err)
				}
			}
		}
	}
}

// refusals reports whether an error is the one that a state refuses with.
func refusals(state kms.State, lost bool, err error) bool {
	want := map[kms.State]error{
		kms.StateEnabled: kms.ErrVersionUnavailable, kms.StateRewrapOnly: kms.ErrVersionRewrapOnly,
		kms.StateDisabled: kms.ErrVersionDisabled, kms.StateRevoked: kms.ErrVersionRevoked,
		kms.StateDestroyScheduled: kms.ErrVersionDestroyScheduled, kms.StateDestroyed: kms.ErrVersionDestroyed,
	}[state]
	return errors.Is(err, want) || lost && errors.Is(err, kms.ErrVersionUnavailable)
}

// end stops the server in order and reads its audit file: what was acknowledged is there.
func (p *crashProof) end(t *testing.T) {
	t.Helper()
	p.stop(t)
	recorded, acknowledged := make(map[string]int), 0
	err := readRecords(p.auditFile(), func(r *record) {
		if r.Outcome == outcomeOK {
			recorded[r.Action+" "+r.Resource]++
		}
	})
	if err != nil {
		t.Error(err)
	}
	for what, n := range p.acknowledged {
		acknowledged += n
		if recorded[what] < n {
			t.Errorf("acknowledged %d times, and %d times in the audit file: %s", n, recorded[what], what)
		}
	}
	text, err := os.ReadFile(p.logFile())
	if err != nil {
		t.Error(err)
	}
	t.Logf("at the starts %d creations were taken back, %d objects switched off",
		strings.Count(string(text), "removing a key version whose creation was interrupted"),
		strings.Count(string(text), "switched off the token object of a version that may not be used"))
	t.Logf("%d kills in %d rounds; %d changes of %d keys acknowledged, %v cut short, of which %d were made; "+
		"SoftHSM2 lost %d objects of versions, and the anchor %d times",
		p.kills, p.rounds, acknowledged, p.created, p.cut, p.whole, p.lost, p.anchors)
}
