package kms_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// model says what a service ought to answer about the versions of one key.
type model struct {
	versions []*modelVersion // number i+1
	primary  int             // index
	blobs    []modelBlob
}

type modelVersion struct {
	state     kms.State
	restoreTo kms.State // while DESTROY_SCHEDULED
	used      bool
	revoked   bool // ever
	// mayBeOn: the token failed to switch the object off.
	mayBeOn bool
}

type modelBlob struct {
	bytes     []byte
	plaintext string
	version   int // index
}

// refusals are the errors of data operations under versions that do not allow them.
var refusals = map[kms.State]error{
	kms.StateDisabled: kms.ErrVersionDisabled, kms.StateRevoked: kms.ErrVersionRevoked, kms.StateRewrapOnly: kms.ErrVersionRewrapOnly,
	kms.StateDestroyScheduled: kms.ErrVersionDestroyScheduled, kms.StateDestroyed: kms.ErrVersionDestroyed,
}

// next is the state after an action on a version; ok is false if it is refused. The table
// is written down once more, on purpose, as the documentation has it.
func (v *modelVersion) next(a kms.Action) (to kms.State, ok bool) {
	type way struct {
		from kms.State
		by   kms.Action
	}
	to, ok = map[way]kms.State{
		{kms.StateDisabled, kms.ActionEnableVersion}:           kms.StateEnabled,
		{kms.StateRewrapOnly, kms.ActionEnableVersion}:         kms.StateEnabled,
		{kms.StateEnabled, kms.ActionDisableVersion}:           kms.StateDisabled,
		{kms.StateRewrapOnly, kms.ActionDisableVersion}:        kms.StateDisabled,
		{kms.StateEnabled, kms.ActionRestrictVersion}:          kms.StateRewrapOnly,
		{kms.StateDisabled, kms.ActionRestrictVersion}:         kms.StateRewrapOnly,
		{kms.StateEnabled, kms.ActionRevokeVersion}:            kms.StateRevoked,
		{kms.StateRewrapOnly, kms.ActionRevokeVersion}:         kms.StateRevoked,
		{kms.StateDisabled, kms.ActionRevokeVersion}:           kms.StateRevoked,
		{kms.StateEnabled, kms.ActionScheduleVersion}:          kms.StateDestroyScheduled,
		{kms.StateDisabled, kms.ActionScheduleVersion}:         kms.StateDestroyScheduled,
		{kms.StateRevoked, kms.ActionScheduleVersion}:          kms.StateDestroyScheduled,
		{kms.StateEnabled, kms.ActionEnableVersion}:            kms.StateEnabled, // and so on: repeated
		{kms.StateDisabled, kms.ActionDisableVersion}:          kms.StateDisabled,
		{kms.StateRewrapOnly, kms.ActionRestrictVersion}:       kms.StateRewrapOnly,
		{kms.StateRevoked, kms.ActionRevokeVersion}:            kms.StateRevoked,
		{kms.StateDestroyScheduled, kms.ActionScheduleVersion}: kms.StateDestroyScheduled,
		{kms.StateDisabled, kms.ActionRestoreVersion}:          kms.StateDisabled,
		{kms.StateRevoked, kms.ActionRestoreVersion}:           kms.StateRevoked,
	}[way{v.state, a}]
	if v.state == kms.StateDestroyScheduled && a == kms.ActionRestoreVersion {
		return v.restoreTo, true
	}
	return to, ok
}

// move makes the model's version go to a state.
func (v *modelVersion) move(to kms.State) {
	if to == v.state {
		return
	}
	if to == kms.StateDestroyScheduled {
		v.restoreTo = kms.StateDisabled
		if v.state == kms.StateRevoked {
			v.restoreTo = kms.StateRevoked
		}
	}
	v.state = to
	v.revoked = v.revoked || to == kms.StateRevoked
}

// allows tells for which uses the state is.
func (v *modelVersion) allows(rewrap bool) bool {
	return v.state == kms.StateEnabled || rewrap && v.state == kms.StateRewrapOnly
}

// modelRun is a model beside the replicas that it describes.
type modelRun struct {
	model
	*rapid.T
	test     *testing.T
	replicas []*world
	clock    *clock
	name     kms.KeyName
	window   time.Duration
}

// Whatever sequence of rotations, changes of state, uses, destructions, faults and
// restarts, on one process or spread over two replicas: each version serves exactly what
// its state allows, at every replica as soon as the call has returned; its token object is
// on or off, there or gone, as the state says; and a version that was ever REVOKED never
// serves again.
func TestLifecycleAgainstAModel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		replicas int
		sqlite   bool
	}{{"one process", 1, false}, {"two replicas", 2, false}, {"SQLite", 1, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(rt *rapid.T) {
				m := newModelRun(t, rt, test.replicas, test.sqlite)
				defer m.stop()
				rt.Repeat(map[string]func(*rapid.T){
					"":                func(rt *rapid.T) { m.with(rt).check() },
					"rotate":          func(rt *rapid.T) { m.with(rt).rotate() },
					"failed rotation": func(rt *rapid.T) { m.with(rt).failedRotation() },
					"change":          func(rt *rapid.T) { m.with(rt).change() },
					"change again":    func(rt *rapid.T) { m.with(rt).change() },
					"lost answer":     func(rt *rapid.T) { m.with(rt).changeWithFault(true) },
					"failed commit":   func(rt *rapid.T) { m.with(rt).changeWithFault(false) },
					"failing token":   func(rt *rapid.T) { m.with(rt).changeWhileTheTokenFails() },
					"encrypt":         func(rt *rapid.T) { m.with(rt).encrypt() },
					"re-encrypt":      func(rt *rapid.T) { m.with(rt).reEncrypt() },
					"time goes by":    func(rt *rapid.T) { m.with(rt).letTimePass() },
					"restart":         func(rt *rapid.T) { m.with(rt).restart() },
				})
			})
		})
	}
}

func newModelRun(t *testing.T, rt *rapid.T, replicas int, sqlite bool) *modelRun {
	m := &modelRun{T: rt, test: t, clock: &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}, window: time.Hour}
	change := func(c *kms.Config) {
		c.Now = m.clock.time
		c.Destruction = kms.DestructionLimits{Window: m.window, MinWindow: time.Minute}
	}
	first := &world{
		t: t, memory: hsmtest.NewMemory(hsmtest.MemoryConfig{}), database: newMemoryDatabase(), shared: replicas > 1,
		config: change, auditor: &recorder{},
	}
	if sqlite {
		first.sqlite = filepath.Join(t.TempDir(), rand.Text())
	}
	first.mustStart()
	m.replicas = append(m.replicas, first)
	for range replicas - 1 {
		other := &world{t: t, memory: first.memory, database: first.database, shared: true, config: change, auditor: &recorder{}}
		other.mustStart()
		m.replicas = append(m.replicas, other)
	}
	m.name = first.create("orders", rapid.SampledFrom([]kms.Profile{kms.ProfileDerived, kms.ProfileStrict}).Draw(rt, "profile"))
	m.versions = []*modelVersion{{state: kms.StateEnabled}}
	return m
}

func (m *modelRun) with(rt *rapid.T) *modelRun {
	m.T = rt
	return m
}

func (m *modelRun) stop() {
	for _, w := range m.replicas {
		w.stop()
	}
}

func (m *modelRun) anyReplica() *world { return rapid.SampledFrom(m.replicas).Draw(m.T, "replica") }

func (m *modelRun) rotate() {
	if len(m.versions) >= 5 {
		m.Skip("enough versions")
	}
	m.clock.advance(time.Millisecond)
	request := &kms.RotateKeyRequest{Name: m.name, RestrictPrevious: rapid.Bool().Draw(m.T, "restrict")}
	if request.RestrictPrevious {
		request.Reason = "compromise"
	}
	r, err := m.anyReplica().service.RotateKey(m.test.Context(), admin, request)
	if err != nil {
		m.Fatalf("RotateKey: %v", err)
	}
	m.wantSpread(&r.Spread)
	restricted := 0
	for _, v := range m.versions {
		if request.RestrictPrevious && v.state == kms.StateEnabled {
			v.state = kms.StateRewrapOnly
			restricted++
		}
	}
	if len(r.Restricted) != restricted {
		m.Fatalf("RotateKey restricted %d versions, want %d", len(r.Restricted), restricted)
	}
	m.versions = append(m.versions, &modelVersion{state: kms.StateEnabled})
	m.primary = len(m.versions) - 1
}

func (m *modelRun) failedRotation() {
	w := m.anyReplica()
	w.faults.FailAfter(hsmtest.MethodGenerateKey, hsm.ErrUnavailable)
	_, err := w.service.RotateKey(m.test.Context(), admin, &kms.RotateKeyRequest{Name: m.name})
	w.faults.Clear()
	if !errors.Is(err, kms.ErrTokenUnavailable) {
		m.Fatalf("RotateKey without an object: %v", err)
	}
}

// stateActions change the state of a version by a call.
var stateActions = []kms.Action{
	kms.ActionEnableVersion, kms.ActionDisableVersion, kms.ActionRestrictVersion, kms.ActionRevokeVersion,
	kms.ActionScheduleVersion, kms.ActionRestoreVersion,
}

// draw draws a replica, a version and an action, and says what ought to become of it.
func (m *modelRun) draw() (w *world, i int, a kms.Action, to kms.State, ok bool) {
	w = m.anyReplica()
	i = rapid.IntRange(0, len(m.versions)-1).Draw(m.T, "version")
	a = rapid.SampledFrom(stateActions).Draw(m.T, "action")
	to, ok = m.versions[i].next(a)
	return w, i, a, to, ok
}

func (m *modelRun) call(w *world, i int, a kms.Action, accepted bool) (*kms.StateChange, error) {
	ctx, v := m.test.Context(), m.name.Version(uint32(i+1))
	switch a {
	case kms.ActionEnableVersion:
		return w.service.EnableKeyVersion(ctx, admin, v, "")
	case kms.ActionDisableVersion:
		return w.service.DisableKeyVersion(ctx, admin, v, "")
	case kms.ActionRestrictVersion:
		return w.service.RestrictKeyVersion(ctx, admin, v, "")
	case kms.ActionRevokeVersion:
		return w.service.RevokeKeyVersion(ctx, admin, &kms.RevokeRequest{Name: v, Reason: "r", DataLossAccepted: accepted})
	case kms.ActionScheduleVersion:
		return w.service.ScheduleKeyVersionDestruction(ctx, admin,
			&kms.DestructionRequest{Name: v, Reason: "r", DataLossAccepted: accepted})
	default:
		return w.service.RestoreKeyVersion(ctx, admin, v, "")
	}
}

func (m *modelRun) change() {
	w, i, a, to, ok := m.draw()
	accepted := rapid.Bool().Draw(m.T, "accepted")
	v := m.versions[i]
	change, err := m.call(w, i, a, accepted)
	loses := (a == kms.ActionRevokeVersion || a == kms.ActionScheduleVersion) && to != v.state
	switch {
	case !ok:
		want := kms.ErrTransition
		if a == kms.ActionRestoreVersion && v.state == kms.StateDestroyed {
			want = kms.ErrVersionDestroyed
		}
		if !errors.Is(err, want) {
			m.Fatalf("%s of version %d, which is %s: %v", a, i+1, v.state, err)
		}
	case loses && v.used && !accepted:
		if !errors.Is(err, kms.ErrDataLoss) {
			m.Fatalf("%s of a used version: %v", a, err)
		}
	case err != nil:
		m.Fatalf("%s of version %d, which is %s: %v", a, i+1, v.state, err)
	default:
		v.move(to)
		v.mayBeOn = false
		if change.Version.State != to || change.Switch != kms.SwitchDone {
			m.Fatalf("%s returned %s, switch %d; want %s", a, change.Version.State, change.Switch, to)
		}
		m.wantSpread(&change.Spread)
	}
}

// changeWithFault makes the commit of a change fail, before or after it was made.
func (m *modelRun) changeWithFault(afterwards bool) {
	w, i, a, to, ok := m.draw()
	v := m.versions[i]
	if !ok || to == v.state {
		m.Skip("nothing would be committed")
	}
	w.store.failCommit(1, afterwards)
	_, err := m.call(w, i, a, true)
	w.store.failCommit(0, false)
	if !errors.Is(err, kms.ErrStoreUnavailable) {
		m.Fatalf("%s when the store fails: %v", a, err)
	}
	if afterwards {
		v.move(to)
	}
	for _, other := range m.replicas { // that the change is known everywhere was not promised
		if other != w {
			other.await("the change of the failed call", func() bool { return m.info(other, i).State == v.state })
		}
	}
}

// changeWhileTheTokenFails makes the token switch nothing.
func (m *modelRun) changeWhileTheTokenFails() {
	w, i, a, to, ok := m.draw()
	v := m.versions[i]
	if !ok || to == v.state {
		m.Skip("nothing would be changed")
	}
	switchesOn := to == kms.StateEnabled || to == kms.StateRewrapOnly && v.state != kms.StateEnabled
	switchesOff := to != kms.StateEnabled && to != kms.StateRewrapOnly
	w.faults.FailBefore(hsmtest.MethodSetUsable, hsm.ErrUnavailable)
	change, err := m.call(w, i, a, true)
	w.faults.Clear()
	switch {
	case switchesOn:
		if !errors.Is(err, kms.ErrTokenUnavailable) {
			m.Fatalf("%s when the token fails: %v", a, err)
		}
		return
	case err != nil:
		m.Fatalf("%s when the token fails: %v", a, err)
	case switchesOff && change.Switch != kms.SwitchFailed:
		m.Fatalf("%s when the token fails: switch %d", a, change.Switch)
	}
	v.mayBeOn = switchesOff && (v.mayBeOn || v.state == kms.StateEnabled || v.state == kms.StateRewrapOnly)
	v.move(to)
}

func (m *modelRun) encrypt() {
	plaintext := fmt.Sprintf("text %d", len(m.blobs))
	ciphertext, err := m.anyReplica().encrypt(m.name, plaintext)
	if primary := m.versions[m.primary]; primary.allows(false) != (err == nil) {
		m.Fatalf("Encrypt under a primary that is %s: %v", primary.state, err)
	}
	if err != nil {
		if !errors.Is(err, kms.ErrNoEnabledPrimary) {
			m.Fatalf("Encrypt is refused with %v", err)
		}
		return
	}
	m.versions[m.primary].used = true
	m.blobs = append(m.blobs, modelBlob{ciphertext, plaintext, m.primary})
}

func (m *modelRun) reEncrypt() {
	if len(m.blobs) == 0 {
		m.Skip("nothing is encrypted yet")
	}
	b := rapid.SampledFrom(m.blobs).Draw(m.T, "blob")
	source, primary := m.versions[b.version], m.versions[m.primary]
	w := m.anyReplica()
	r, err := w.service.ReEncrypt(m.test.Context(), admin, &kms.ReEncryptRequest{Parent: m.name.Namespace(), Ciphertext: b.bytes})
	if (source.allows(true) && primary.allows(false)) != (err == nil) || err == nil && source.revoked {
		m.Fatalf("ReEncrypt from %s to a primary that is %s: %v", source.state, primary.state, err)
	}
	switch {
	case err == nil:
		primary.used = true
		m.blobs = append(m.blobs, modelBlob{r.Ciphertext, b.plaintext, m.primary})
	case !source.allows(true) && !errors.Is(err, refusals[source.state]),
		source.allows(true) && !errors.Is(err, kms.ErrNoEnabledPrimary):
		m.Fatalf("ReEncrypt from %s to a primary that is %s is refused with %v", source.state, primary.state, err)
	}
}

// letTimePass lets all windows pass; the replicas notice when something changes.
func (m *modelRun) letTimePass() {
	m.clock.advance(m.window)
	if _, err := m.anyReplica().service.UpdateKey(m.test.Context(), admin, &kms.UpdateKeyRequest{Name: m.name}); err != nil {
		m.Fatalf("UpdateKey: %v", err)
	}
	for i, v := range m.versions {
		if v.state == kms.StateDestroyScheduled {
			v.state, v.mayBeOn = kms.StateDestroyed, false
		}
		for _, w := range m.replicas {
			w.await("the destruction", func() bool { return m.info(w, i).State == v.state })
		}
	}
}

func (m *modelRun) restart() {
	m.anyReplica().restart()
	for _, v := range m.versions {
		v.mayBeOn = false
	}
}

func (m *modelRun) info(w *world, i int) *kms.VersionInfo {
	info, err := w.service.GetKeyVersion(m.test.Context(), admin, m.name.Version(uint32(i+1)))
	if err != nil {
		m.Fatalf("GetKeyVersion: %v", err)
	}
	return info
}

func (m *modelRun) wantSpread(s *kms.Spread) {
	if len(s.Acknowledged) != len(m.replicas) || len(s.Expired) != 0 || s.Revision == 0 {
		m.Fatalf("the change is known by %v, expired %v", s.Acknowledged, s.Expired)
	}
}

// check compares every replica, and the token, with the model.
func (m *modelRun) check() {
	for i, v := range m.versions {
		for _, w := range m.replicas {
			info := m.info(w, i)
			if info.State != v.state || info.Unavailable != "" || info.Primary != (i == m.primary) {
				m.Fatalf("version %d is %s (%s), primary %v; want %s", i+1, info.State, info.Unavailable, info.Primary, v.state)
			}
			if !v.used && !info.FirstUse.IsZero() {
				m.Fatalf("version %d was never used, but has a first use", i+1)
			}
			if (v.state == kms.StateDestroyScheduled) != (info.RestoreTo != 0) || info.RestoreTo != 0 && info.RestoreTo != v.restoreTo {
				m.Fatalf("version %d, which is %s, would be restored to %s", i+1, v.state, info.RestoreTo)
			}
		}
		m.checkObject(i, v)
	}
	for _, b := range m.blobs {
		v := m.versions[b.version]
		for _, w := range m.replicas {
			got, err := w.decrypt(m.name, b.bytes)
			switch {
			case v.allows(false) != (err == nil) || err == nil && (got != b.plaintext || v.revoked):
				m.Fatalf("a ciphertext of version %d, which is %s: %q, %v", b.version+1, v.state, got, err)
			case err != nil && !errors.Is(err, refusals[v.state]):
				m.Fatalf("a ciphertext of version %d, which is %s, is refused with %v", b.version+1, v.state, err)
			}
		}
	}
}

func (m *modelRun) checkObject(i int, v *modelVersion) {
	w := m.replicas[0]
	object, err := w.faults.Key(m.test.Context(), m.info(w, i).UID)
	if (v.state == kms.StateDestroyed) != errors.Is(err, hsm.ErrKeyNotFound) {
		m.Fatalf("the object of version %d, which is %s: %v", i+1, v.state, err)
	}
	on := v.state == kms.StateEnabled || v.state == kms.StateRewrapOnly
	if err == nil && object.Usable != on && !v.mayBeOn {
		m.Fatalf("the object of version %d, which is %s, is usable: %v", i+1, v.state, object.Usable)
	}
}
