package kms_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// newClockedWorld is a world whose clock the test sets, with windows of an hour.
func newClockedWorld(t *testing.T) (*world, *clock) {
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		c.Now = clock.time
		c.Destruction = kms.DestructionLimits{Window: time.Hour, MinWindow: time.Minute}
	})
	return w, clock
}

func (w *world) schedule(v kms.VersionName, window time.Duration) *kms.StateChange {
	w.t.Helper()
	change, err := w.service.ScheduleKeyVersionDestruction(w.t.Context(), admin,
		&kms.DestructionRequest{Name: v, Reason: "over", Window: window, DataLossAccepted: true})
	if err != nil {
		w.t.Fatalf("ScheduleKeyVersionDestruction: %v", err)
	}
	return change
}

// wakeUp commits a change that means nothing, which wakes what the service does by itself.
func (w *world) wakeUp(name kms.KeyName) {
	w.t.Helper()
	if _, err := w.service.UpdateKey(w.t.Context(), admin, &kms.UpdateKeyRequest{Name: name}); err != nil {
		w.t.Fatalf("UpdateKey: %v", err)
	}
}

func (w *world) version(v kms.VersionName) *kms.VersionInfo {
	w.t.Helper()
	info, err := w.service.GetKeyVersion(w.t.Context(), admin, v)
	if err != nil {
		w.t.Fatalf("GetKeyVersion: %v", err)
	}
	return info
}

func (w *world) awaitState(v kms.VersionName, s kms.State) {
	w.t.Helper()
	w.await(s.String(), func() bool { return w.version(v).State == s })
}

// An object is destroyed when its window has passed, not before, also if the service was
// down then; the row tells when, who asked and why, and the record that the service did it.
func TestDestruction(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		w, clock := newClockedWorld(t)
		name := w.create("orders", kms.ProfileDerived)
		ciphertext := w.mustEncrypt(name, "secret")
		v, uid := name.Version(1), w.uid(name.Version(1))
		due := clock.time().Add(2 * time.Hour)
		if change := w.schedule(v, 2*time.Hour); !change.Version.DestroyTime.Equal(due) || change.Switch != kms.SwitchDone {
			t.Fatalf("the schedule: %+v", change)
		}
		if next := w.service.Schedule().NextDestruction; !restart && next.IsZero() {
			w.await("the schedule", func() bool { return w.service.Schedule().NextDestruction.Equal(due) })
		}
		clock.advance(2*time.Hour - time.Second)
		w.restart() // at a start all that is due is done
		w.await("a look at the schedule", func() bool { return w.service.Schedule().NextDestruction.Equal(due) })
		if got := w.version(v); got.State != kms.StateDestroyScheduled || got.RestoreTo != kms.StateDisabled {
			t.Fatalf("a second too soon: %+v", got)
		}
		clock.advance(time.Second)
		if restart {
			w.restart()
		} else {
			w.wakeUp(name)
		}
		w.awaitState(v, kms.StateDestroyed)
		got := w.version(v)
		if !got.DestroyTime.Equal(due) || got.RestoreTo != 0 || got.StateReason != "over" || got.StatePrincipal != admin.Name {
			t.Fatalf("the destroyed version: %+v", got)
		}
		if _, err := w.faults.Key(t.Context(), uid); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Fatalf("the object: %v", err)
		}
		_, err := w.decrypt(name, ciphertext)
		wantError(t, err, kms.ErrVersionDestroyed, "Decrypt")
		_, err = w.service.RestoreKeyVersion(t.Context(), admin, v, "")
		wantError(t, err, kms.ErrVersionDestroyed, "RestoreKeyVersion")
		wantText(t, err, "is DESTROYED and cannot be restored: its object was destroyed at 2030-01-01T02:00:00Z, which is final")
		_, err = w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "leaked", DataLossAccepted: true})
		wantError(t, err, kms.ErrTransition, "RevokeKeyVersion")
		wantText(t, err, "is DESTROYED and cannot be revoked: its object was destroyed at")
		w.await("the record", func() bool { return w.auditor.find(kms.ActionDestroyVersion).Action != "" })
		if e := w.auditor.find(kms.ActionDestroyVersion); e.Err != nil || e.Principal.Method != kms.MethodSystem || e.Resource != v.String() {
			t.Fatalf("the record: %+v", e)
		}
		if s := w.service.Schedule(); s.Destructions != 1 || s.DestructionsFailed != 0 {
			t.Fatalf("the schedule: %+v", s)
		}
		w.restart()
		for _, f := range w.diagnose() {
			if f.Severity == kms.SeverityError {
				t.Fatalf("Diagnose finds %+v", f)
			}
		}
	}
}

// A version that is to be destroyed is revoked by restoring it first, and the refusal says
// so; nothing on the way lets it be used.
func TestRevokingWhatIsScheduled(t *testing.T) {
	t.Parallel()
	w, _ := newClockedWorld(t)
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	v := name.Version(1)
	revoke := func() error {
		_, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "leaked", DataLossAccepted: true})
		return err
	}
	restore := func() {
		t.Helper()
		if _, err := w.service.RestoreKeyVersion(t.Context(), admin, v, "to revoke it"); err != nil {
			t.Fatalf("RestoreKeyVersion: %v", err)
		}
		if _, err := w.decrypt(name, ciphertext); err == nil {
			t.Fatal("a restored version can be used")
		}
	}
	if _, err := w.service.DisableKeyVersion(t.Context(), admin, v, ""); err != nil {
		t.Fatal(err)
	}
	w.schedule(v, 0)
	err := revoke()
	wantError(t, err, kms.ErrTransition, "RevokeKeyVersion of what is to be destroyed")
	wantText(t, err, "is DESTROY_SCHEDULED and cannot be revoked: restore it first; that makes it DISABLED, in which it cannot be used either")
	restore()
	if err := revoke(); err != nil {
		t.Fatalf("RevokeKeyVersion after the restoration: %v", err)
	}
	w.schedule(v, 0)
	wantText(t, revoke(), "it was REVOKED before, and is again when it is restored")
	restore()
	_, err = w.service.EnableKeyVersion(t.Context(), admin, v, "")
	wantText(t, err, "is REVOKED and cannot be enabled: a revocation is for ever")
}

func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("the error does not say %q: %v", text, err)
	}
}

func (w *world) diagnose() []kms.Finding {
	w.t.Helper()
	findings, err := w.service.Diagnose(w.t.Context(), admin)
	if err != nil {
		w.t.Fatalf("Diagnose: %v", err)
	}
	return findings
}

// Whatever fails while an object is destroyed, it is destroyed in the end, by the next
// attempt or after a restart, and once its destruction has begun the version is not
// restored.
func TestDestructionSurvivesFaults(t *testing.T) {
	t.Parallel()
	version := func(c *kms.Change, s kms.State) bool { return len(c.Versions) == 1 && c.Versions[0].State == s }
	begins := func(c *kms.Change) bool { return version(c, kms.StateDestroyScheduled) }
	ends := func(c *kms.Change) bool { return version(c, kms.StateDestroyed) }
	for name, test := range map[string]struct {
		breakIt func(*world)
		begun   bool // the destruction has, and is not over
	}{
		"token does not answer":      {func(w *world) { w.faults.FailBefore(hsmtest.MethodKey, hsm.ErrUnavailable) }, false},
		"object not destroyed":       {func(w *world) { w.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable) }, true},
		"destroyed, answer lost":     {func(w *world) { w.faults.FailAfter(hsmtest.MethodDestroyKey, hsm.ErrUnavailable) }, true},
		"beginning not stored":       {func(w *world) { w.store.failCommitOf(begins, false) }, false},
		"beginning stored, unknown":  {func(w *world) { w.store.failCommitOf(begins, true) }, true},
		"destruction not stored":     {func(w *world) { w.store.failCommitOf(ends, false) }, true},
		"destruction stored unknown": {func(w *world) { w.store.failCommitOf(ends, true) }, false},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w, clock := newClockedWorld(t)
				key := w.create("orders", kms.ProfileStrict)
				v := key.Version(1)
				w.schedule(v, 0)
				test.breakIt(w) // before its time: the destroyer may look at any moment
				clock.advance(time.Hour)
				w.wakeUp(key)
				w.await("a failure", func() bool { return w.service.Schedule().DestructionsFailed == 1 })
				if test.begun {
					_, err := w.service.RestoreKeyVersion(t.Context(), admin, v, "")
					wantError(t, err, kms.ErrVersionDestroyed, "RestoreKeyVersion when the destruction has begun")
				}
				if restart {
					w.restart()
				} else {
					w.faults.Clear()
					clock.advance(time.Minute) // until the next attempt
					w.wakeUp(key)
				}
				w.awaitState(v, kms.StateDestroyed)
				if n := w.objects(); n != 0 {
					t.Fatalf("the token holds %d objects", n)
				}
				for _, f := range w.diagnose() {
					if f.Severity == kms.SeverityError && f.Area == "keys" && !restart {
						t.Fatalf("Diagnose finds %+v", f)
					}
				}
			})
		}
	}
}

// That an object is not found means that it is gone only in the token that holds the seal key.
func TestDestructionInAnotherToken(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	key := w.create("orders", kms.ProfileDerived)
	v := key.Version(1)
	w.schedule(v, 0)
	clock.advance(time.Hour - time.Second)
	for _, uid := range []hsm.UID{w.database.sealKey, w.uid(v)} {
		if err := w.memory.TamperDelete(uid); err != nil {
			t.Fatal(err)
		}
	}
	clock.advance(time.Second)
	w.wakeUp(key)
	w.await("a failure", func() bool { return w.service.Schedule().DestructionsFailed > 0 })
	if got := w.version(v); got.State != kms.StateDestroyScheduled || got.RestoreTo == 0 {
		t.Fatalf("the version: %+v", got)
	}
}

// Of several replicas one destroys, and it is recorded once.
func TestOneReplicaDestroys(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	first := newSharedWorld(t, func(c *kms.Config) { c.Now = clock.time })
	second := first.newReplica()
	name := first.create("orders", kms.ProfileDerived)
	first.schedule(name.Version(1), 0)
	calls := func() int {
		return first.faults.Count(hsmtest.MethodDestroyKey) + second.faults.Count(hsmtest.MethodDestroyKey)
	}
	before := calls()
	clock.advance(31 * 24 * time.Hour)
	first.wakeUp(name)
	first.awaitState(name.Version(1), kms.StateDestroyed)
	second.awaitState(name.Version(1), kms.StateDestroyed)
	done := func() uint64 { return first.service.Schedule().Destructions + second.service.Schedule().Destructions }
	first.await("the count", func() bool { return done() > 0 })
	first.wakeUp(name)
	if done() != 1 {
		t.Fatalf("%d destructions", done())
	}
	if n := calls() - before; n != 1 {
		t.Fatalf("DestroyKey was called %d times", n)
	}
}

// A clock that is wrong at one replica destroys nothing early: where the store's server has a
// clock, that has to agree, when a destruction is scheduled and when it is due.
func TestDestructionByAWrongClock(t *testing.T) {
	t.Parallel()
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	ours, theirs := &clock{now: begin}, &clock{now: begin}
	w := newSharedWorld(t, func(c *kms.Config) { c.Now = ours.time })
	w.database.clock.Store(theirs)
	first, second := w.create("orders", kms.ProfileDerived), w.create("cards", kms.ProfileDerived)
	orphan := w.plant(1, w.database.id)
	w.schedule(first.Version(1), 0)
	if _, err := w.scheduleOrphans(orphan); err != nil {
		t.Fatal(err)
	}
	ours.advance(31 * 24 * time.Hour) // and theirs stands at the beginning
	w.wakeUp(first)
	w.await("the refusals", func() bool { return w.service.Schedule().DestructionsFailed > 1 })
	if got := w.version(first.Version(1)); got.State != kms.StateDestroyScheduled || got.RestoreTo == 0 || len(w.orphans()) != 1 {
		t.Fatalf("by one clock only: %+v", got)
	}

	// A replica whose clock is behind: the window is no shorter for that.
	theirs.advance(100 * 24 * time.Hour)
	change := w.schedule(second.Version(1), 0)
	if want := theirs.time().Add(30 * 24 * time.Hour); !change.Version.DestroyTime.Equal(want) {
		t.Fatalf("it is to be destroyed at %v, want %v", change.Version.DestroyTime, want)
	}
	if _, err := w.service.ScheduleKeyVersionDestruction(t.Context(), admin, &kms.DestructionRequest{
		Name: second.Version(1), Reason: "again", Window: 30 * 24 * time.Hour}); err != nil {
		t.Fatalf("repeated with the same window: %v", err)
	}
	ours.advance(69 * 24 * time.Hour)
	w.wakeUp(first)
	w.awaitState(first.Version(1), kms.StateDestroyed)
	w.await("the destruction of the orphan", func() bool { return len(w.orphans()) == 0 })
	if got := w.version(second.Version(1)); got.State != kms.StateDestroyScheduled {
		t.Fatalf("the other version: %+v", got)
	}
}

// newSharedWorld is newWorld on a store that other replicas may join.
func newSharedWorld(t testing.TB, change func(*kms.Config)) *world {
	t.Helper()
	w := &world{
		t: t, memory: hsmtest.NewMemory(hsmtest.MemoryConfig{}), database: newMemoryDatabase(), shared: true,
		config: change, auditor: &recorder{},
	}
	w.mustStart()
	t.Cleanup(w.stop)
	return w
}

// A version is restored to what it was, never to a use, and not when its object is gone.
func TestRestore(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	v := name.Version(1)
	w.schedule(v, 0)
	change, err := w.service.RestoreKeyVersion(t.Context(), admin, v, "still needed")
	if err != nil || change.Version.State != kms.StateDisabled || !change.Version.DestroyTime.IsZero() || change.Version.RestoreTo != 0 {
		t.Fatalf("RestoreKeyVersion: %+v, %v", change, err)
	}
	if _, err := w.service.RestoreKeyVersion(t.Context(), admin, v, "again"); err != nil {
		t.Fatalf("RestoreKeyVersion repeated: %v", err)
	}
	clock.advance(2 * time.Hour)
	w.wakeUp(name)
	if _, err := w.service.EnableKeyVersion(t.Context(), admin, v, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := w.decrypt(name, ciphertext); err != nil || got != "secret" {
		t.Fatalf("after all: %q, %v", got, err)
	}

	if _, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "r", DataLossAccepted: true}); err != nil {
		t.Fatal(err)
	}
	w.schedule(v, 0)
	change, err = w.service.RestoreKeyVersion(t.Context(), admin, v, "")
	if err != nil || change.Version.State != kms.StateRevoked {
		t.Fatalf("RestoreKeyVersion of what was revoked: %+v, %v", change, err)
	}
	_, err = w.service.EnableKeyVersion(t.Context(), admin, v, "")
	wantError(t, err, kms.ErrTransition, "EnableKeyVersion of what was revoked")

	w.schedule(v, 0)
	if err := w.memory.TamperDelete(w.uid(v)); err != nil {
		t.Fatal(err)
	}
	_, err = w.service.RestoreKeyVersion(t.Context(), admin, v, "")
	wantError(t, err, kms.ErrVersionDestroyed, "RestoreKeyVersion without an object")
}

// The window is bounded below, and is not changed by asking again.
func TestDestructionWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	v := w.create("orders", kms.ProfileDerived).Version(1)
	request := &kms.DestructionRequest{Name: v, Reason: "over", Window: 24*time.Hour - time.Second}
	_, err := w.service.ScheduleKeyVersionDestruction(t.Context(), admin, request)
	wantError(t, err, kms.ErrInvalidRequest, "a window below the minimum")
	first := w.schedule(v, 0)
	if window := first.Version.DestroyTime.Sub(first.Version.StateTime); window != 30*24*time.Hour {
		t.Fatalf("the default window is %v", window)
	}
	for _, same := range []time.Duration{0, 30 * 24 * time.Hour} {
		if again := w.schedule(v, same); !again.Version.DestroyTime.Equal(first.Version.DestroyTime) {
			t.Fatalf("the time moved to %v", again.Version.DestroyTime)
		}
	}
	request.Window = 48 * time.Hour
	_, err = w.service.ScheduleKeyVersionDestruction(t.Context(), admin, request)
	wantError(t, err, kms.ErrTransition, "another window for what is scheduled")
}

// A version that a clock has made in the future is not rotated for long, and Diagnose says so.
func TestVersionsMadeInTheFuture(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	told := func() (f kms.Finding) {
		for _, f = range w.diagnose() {
			if f.Check == "times" {
				break
			}
		}
		return f
	}
	clock.advance(365 * 24 * time.Hour)
	name := w.create("orders", kms.ProfileDerived)
	if f := told(); f.Severity != kms.SeverityOK {
		t.Errorf("by the clock that made it: %+v", f)
	}
	clock.advance(-365 * 24 * time.Hour)
	if f := told(); f.Severity != kms.SeverityWarning || !strings.Contains(f.Detail, name.Version(1).String()) {
		t.Errorf("by a clock that is a year behind: %+v", f)
	}
}
