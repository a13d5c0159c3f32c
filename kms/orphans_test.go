package kms_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// plant makes an object in the token that no row names.
func (w *world) plant(first byte, storeID string) hsm.UID {
	w.t.Helper()
	uid := hsm.UID{first, 1, 2, 3}
	if _, err := w.memory.Open().GenerateKey(w.t.Context(), uid, "keyholt:"+storeID+":1", hsm.AES256Blocks); err != nil {
		w.t.Fatal(err)
	}
	return uid
}

func (w *world) orphans() []*kms.OrphanInfo {
	w.t.Helper()
	list, err := w.service.ListOrphans(w.t.Context(), admin)
	if err != nil {
		w.t.Fatalf("ListOrphans: %v", err)
	}
	return list
}

func (w *world) scheduleOrphans(uids ...hsm.UID) ([]*kms.OrphanInfo, error) {
	return w.service.ScheduleOrphanDestruction(w.t.Context(), admin, &kms.OrphanDestructionRequest{UIDs: uids, Reason: "left over"})
}

// Orphans are listed, reported at the start, destroyed after a window when an operator
// asks for it, and nothing else is.
func TestOrphans(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	name := w.create("orders", kms.ProfileDerived)
	one, two := w.plant(1, w.database.id), w.plant(2, w.database.id)
	foreign := w.plant(3, "0123456789abcdef")
	if list := w.orphans(); len(list) != 2 || list[0].UID != one || list[1].UID != two || !list[0].DestroyTime.IsZero() ||
		list[0].Spec != hsm.AES256Blocks || list[0].Label != "keyholt:"+w.database.id+":1" {
		t.Fatalf("ListOrphans: %+v", list)
	}
	w.restart()
	reported := 0
	for _, f := range w.diagnose() {
		if f.Check == "orphan" {
			reported++
		}
	}
	if reported != 2 {
		t.Fatalf("the start reported %d orphans", reported)
	}
	for _, wrong := range []hsm.UID{w.uid(name.Version(1)), foreign, w.database.sealKey, {9}} {
		_, err := w.scheduleOrphans(one, wrong)
		wantError(t, err, kms.ErrInvalidRequest, "the destruction of what is no orphan")
	}
	due := clock.time().Add(time.Hour)
	scheduled, err := w.scheduleOrphans(one, one)
	if err != nil || len(scheduled) != 1 || !scheduled[0].DestroyTime.Equal(due) {
		t.Fatalf("ScheduleOrphanDestruction: %+v, %v", scheduled, err)
	}
	if e := w.auditor.find(kms.ActionScheduleOrphans); e.Resource != "orphans/"+one.String() || e.Reason != "left over" {
		t.Fatalf("the record: %+v", e)
	}
	clock.advance(time.Minute)
	if scheduled, err = w.scheduleOrphans(one); err != nil || !scheduled[0].DestroyTime.Equal(due) {
		t.Fatalf("ScheduleOrphanDestruction repeated: %+v, %v", scheduled, err)
	}
	clock.advance(time.Hour)
	w.wakeUp(name)
	w.await("the destruction", func() bool { return len(w.orphans()) == 1 })
	if list := w.orphans(); list[0].UID != two {
		t.Fatalf("what remains: %+v", list)
	}
	w.await("the record", func() bool { return w.auditor.find(kms.ActionDestroyOrphan).Action != "" })
	if e := w.auditor.find(kms.ActionDestroyOrphan); e.Err != nil || e.Resource != "orphans/"+one.String() {
		t.Fatalf("the record: %+v", e)
	}
	for _, uid := range []hsm.UID{two, foreign, w.uid(name.Version(1)), w.database.sealKey} {
		if _, err := w.faults.Key(t.Context(), uid); err != nil {
			t.Fatalf("object %s: %v", uid, err)
		}
	}
}

// The object of a destroyed version that came back with the token's backup is an orphan.
func TestObjectThatCameBack(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	name := w.create("orders", kms.ProfileDerived)
	v, uid := name.Version(1), w.uid(name.Version(1))
	w.schedule(v, 0)
	clock.advance(time.Hour)
	w.wakeUp(name)
	w.awaitState(v, kms.StateDestroyed)
	if _, err := w.memory.Open().GenerateKey(t.Context(), uid, fmt.Sprintf("keyholt:%s:1", w.database.id), hsm.AES256Blocks); err != nil {
		t.Fatal(err)
	}
	if list := w.orphans(); len(list) != 1 || list[0].UID != uid {
		t.Fatalf("ListOrphans: %+v", list)
	}
	if _, err := w.scheduleOrphans(); err != nil {
		t.Fatal(err)
	}
	clock.advance(time.Hour)
	w.wakeUp(name)
	w.await("the destruction", func() bool { return len(w.orphans()) == 0 })
	if got := w.version(v); got.State != kms.StateDestroyed {
		t.Fatalf("the version is %s", got.State)
	}
}

// In a store that was put to an older state no orphan is destroyed, also none that was
// scheduled before.
func TestOrphansAfterARollback(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	anchor := &memoryAnchor{}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		c.Now, c.Anchors = clock.time, []kms.Anchor{anchor}
		c.Destruction = kms.DestructionLimits{Window: time.Hour, MinWindow: time.Minute}
		c.AcceptRollback = "restored by hand"
	})
	name := w.create("orders", kms.ProfileDerived)
	orphan := w.plant(1, w.database.id)
	if _, err := w.scheduleOrphans(orphan); err != nil {
		t.Fatal(err)
	}
	w.stop()
	anchor.head.Revision += 100 // as if the store had been further
	w.mustStart()
	clock.advance(2 * time.Hour)
	w.wakeUp(name)
	w.create("second", kms.ProfileDerived)
	if list := w.orphans(); len(list) != 1 || !list[0].DestroyTime.IsZero() {
		t.Fatalf("ListOrphans: %+v", list)
	}
	if _, err := w.faults.Key(t.Context(), orphan); err != nil {
		t.Fatalf("the orphan: %v", err)
	}
	_, err := w.scheduleOrphans(orphan)
	wantError(t, err, kms.ErrRollbackAccepted, "ScheduleOrphanDestruction")
}

// What another replica is just making is no orphan.
func TestOrphansAreNotWhatIsBeingMade(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	second := first.newReplica()
	name := first.create("orders", kms.ProfileDerived)
	gate := first.faults.Hold(hsmtest.MethodEncryptBlocks) // the object is there, its row not active
	done := make(chan error, 1)
	go func() {
		_, err := first.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name})
		done <- err
	}()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := first.objects(); n != 2 {
		t.Fatalf("the token holds %d objects", n)
	}
	if list := second.orphans(); len(list) != 0 {
		t.Fatalf("ListOrphans: %+v", list)
	}
	gate.Release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// The same, when the creation goes on while it is being undone.
func TestCreationThatIsBeingUndone(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	second := first.newReplica()
	name := first.create("orders", kms.ProfileDerived)
	making, undoing := first.faults.Hold(hsmtest.MethodGenerateKey), second.faults.Hold(hsmtest.MethodDestroyKey)
	rotate := func(w *world, done chan<- error) {
		_, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name})
		done <- err
	}
	made, madeAgain := make(chan error, 1), make(chan error, 1)
	go rotate(first, made)
	if err := making.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	first.database.loseLocks()
	go rotate(second, madeAgain)
	if err := undoing.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	making.Release()
	first.await("the object", func() bool { return first.objects() == 2 })
	undoing.Release()
	if err := <-made; !errors.Is(err, kms.ErrConflict) {
		t.Fatalf("the creation that was undone: %v", err)
	}
	if err := <-madeAgain; err != nil {
		t.Fatalf("the rotation that undid it: %v", err)
	}
	if n := first.objects(); n != 2 {
		t.Fatalf("the token holds %d objects", n)
	}
	for _, w := range []*world{first, second} {
		if key, err := w.service.GetKey(t.Context(), admin, name); err != nil || key.Primary != 2 || key.VersionCount != 2 {
			t.Fatalf("the key: %+v, %v", key, err)
		}
		w.mustEncrypt(name, "x")
	}
}

// A creation whose store loses its lock, so that another replica undoes it meanwhile,
// does not leave an object, and does not activate what was undone.
func TestCreationThatWasUndoneMeanwhile(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	name := first.create("orders", kms.ProfileDerived)
	gate := first.faults.Hold(hsmtest.MethodGenerateKey)
	done := make(chan error, 1)
	go func() {
		_, err := first.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name})
		done <- err
	}()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	first.database.loseLocks()
	second := first.newReplica() // whose start resolves what is CREATING
	if v, err := second.service.GetKey(t.Context(), admin, name); err != nil || v.VersionCount != 1 {
		t.Fatalf("the key: %+v, %v", v, err)
	}
	gate.Release()
	if err := <-done; !errors.Is(err, kms.ErrConflict) {
		t.Fatalf("the creation that was undone: %v", err)
	}
	if n := first.objects(); n != 1 {
		t.Fatalf("the token holds %d objects", n)
	}
	if _, err := second.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	first.mustEncrypt(name, "x")
}

// overwrittenAnchor shows what somebody else has noted in it.
type overwrittenAnchor struct {
	memoryAnchor
	other atomic.Pointer[kms.Head] // nil: nobody has
}

func (a *overwrittenAnchor) Read(ctx context.Context) (kms.Head, bool, error) {
	if other := a.other.Load(); other != nil {
		return *other, true, nil
	}
	return a.memoryAnchor.Read(ctx)
}

// While another copy of the store is in use with the same token, what looks like an orphan
// may be a key of that: none is destroyed, also none that was scheduled before.
func TestOrphansOfAnotherCopy(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	anchor := &overwrittenAnchor{}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		c.Now, c.Anchors = clock.time, []kms.Anchor{anchor}
		c.Destruction = kms.DestructionLimits{Window: time.Hour, MinWindow: time.Minute}
	})
	name := w.create("orders", kms.ProfileDerived)
	orphan := w.plant(1, w.database.id)
	overwrite := func(change func(*kms.Head)) {
		t.Helper()
		head, ok, err := anchor.memoryAnchor.Read(t.Context())
		if err != nil || !ok {
			t.Fatal("nothing is noted", err)
		}
		change(&head)
		anchor.other.Store(&head)
	}
	told := func() (severity kms.Severity) {
		for _, f := range w.diagnose() {
			if f.Check == "anchors" {
				severity = f.Severity
			}
		}
		return severity
	}
	for what, change := range map[string]func(*kms.Head){
		"ahead":           func(h *kms.Head) { h.Revision++ },
		"another history": func(h *kms.Head) { h.Seal[0] ^= 1 },
		"behind":          func(h *kms.Head) { h.Revision-- },
	} {
		overwrite(change)
		_, err := w.scheduleOrphans(orphan)
		wantError(t, err, kms.ErrRollbackAccepted, what)
		if told() != kms.SeverityError {
			t.Errorf("%s: Diagnose does not tell", what)
		}
	}
	anchor.other.Store(nil)
	if _, err := w.scheduleOrphans(orphan); err != nil || told() == kms.SeverityError {
		t.Fatalf("with its own note: %v", err)
	}
	overwrite(func(h *kms.Head) { h.Revision += 10 })
	clock.advance(time.Hour)
	w.wakeUp(name)
	w.await("the refusal", func() bool { return w.service.Schedule().DestructionsFailed > 0 })
	if list := w.orphans(); len(list) != 1 {
		t.Fatalf("ListOrphans: %+v", list)
	}
	anchor.other.Store(nil)
	clock.advance(time.Hour)
	w.wakeUp(name)
	w.await("the destruction", func() bool { return len(w.orphans()) == 0 })
}
