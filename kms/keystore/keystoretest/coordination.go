package keystoretest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/kms"
)

var coordinationTests = []test{
	{"Leases", testLeases},
	{"LeaseRevision", testLeaseRevision},
	{"Locks", testLocks},
	{"LocksExcludeOthers", testLocksExcludeOthers},
	{"Listen", testListen},
	{"Clock", testClock},
}

// sampleLease is a lease that a replica joins with.
func sampleLease(id string) *kms.Lease {
	return &kms.Lease{
		ID: id, Counter: 1, Applied: 3, Duration: 5*time.Second + time.Nanosecond,
		Replica: "host-1 4711", Release: "v1.2.3", StartTime: sampleTime,
	}
}

func leases(t *testing.T, store kms.Store) []*kms.Lease {
	t.Helper()
	var both [2][]*kms.Lease
	for i, confirm := range []bool{false, true} {
		found, revision, err := store.Leases(t.Context(), confirm)
		if err != nil {
			t.Fatalf("Leases: %v", err)
		}
		if want := load(t, store).Head.Revision; revision != want {
			t.Errorf("the revision with the leases is %d, want %d", revision, want)
		}
		both[i] = found
	}
	if diff := cmp.Diff(both[0], both[1], compare...); diff != "" {
		t.Errorf("confirmed leases are others:\n%s", diff)
	}
	return both[0]
}

func testLeases(t *testing.T, target *Target) {
	store := target.Store
	if found := leases(t, store); len(found) != 0 {
		t.Errorf("a new store has the leases %v", found)
	}
	a, b := sampleLease("a"), sampleLease("b")
	for _, l := range []*kms.Lease{a, b} {
		if _, err := store.InsertLease(t.Context(), l); err != nil {
			t.Fatalf("InsertLease: %v", err)
		}
	}
	if _, err := store.InsertLease(t.Context(), a); !errors.Is(err, kms.ErrConflict) {
		t.Errorf("InsertLease of a lease that is there: %v", err)
	}
	renewed := *a
	renewed.Applied = 9
	for range 2 {
		renewed.Counter++
		if _, err := store.RenewLease(t.Context(), &renewed); err != nil {
			t.Errorf("RenewLease: %v", err)
		}
	}
	target.Reopen(t)
	store = target.Store
	if diff := cmp.Diff([]*kms.Lease{&renewed, b}, leases(t, store), compare...); diff != "" {
		t.Errorf("the leases (-want +got):\n%s", diff)
	}
	for _, counter := range []uint64{1, 2, 4} { // not the one that is there
		if err := store.RemoveLease(t.Context(), "a", counter); err != nil {
			t.Errorf("RemoveLease: %v", err)
		}
	}
	if found := leases(t, store); len(found) != 2 {
		t.Errorf("a renewed lease was removed: %v", found)
	}
	for range 2 {
		if err := store.RemoveLease(t.Context(), "a", 3); err != nil {
			t.Errorf("RemoveLease: %v", err)
		}
	}
	if diff := cmp.Diff([]*kms.Lease{b}, leases(t, store), compare...); diff != "" {
		t.Errorf("after the removal (-want +got):\n%s", diff)
	}
	renewed.Counter++
	if _, err := store.RenewLease(t.Context(), &renewed); !errors.Is(err, kms.ErrLeaseGone) {
		t.Errorf("RenewLease of a lease that was removed: %v", err)
	}
	if err := store.RemoveLease(t.Context(), "b", 0); err != nil {
		t.Errorf("RemoveLease: %v", err)
	}
	if found := leases(t, store); len(found) != 0 {
		t.Errorf("leases that were removed: %v", found)
	}
}

// testLeaseRevision holds that leases are no part of the metadata, and that their
// methods tell the store's revision.
func testLeaseRevision(t *testing.T, target *Target) {
	store := target.Store
	for want := kms.Revision(0); want < 3; want++ {
		l := sampleLease("a")
		revision, err := store.InsertLease(t.Context(), l)
		if err != nil || revision != want {
			t.Errorf("InsertLease: revision %d, %v; want %d", revision, err, want)
		}
		l.Counter++
		if revision, err = store.RenewLease(t.Context(), l); err != nil || revision != want {
			t.Errorf("RenewLease: revision %d, %v; want %d", revision, err, want)
		}
		if err := store.RemoveLease(t.Context(), l.ID, l.Counter); err != nil {
			t.Errorf("RemoveLease: %v", err)
		}
		if head := commit(t, store, &kms.Change{}); head.Revision != want+1 {
			t.Errorf("revision %d after a change, want %d", head.Revision, want+1)
		}
	}
}

func testLocks(t *testing.T, target *Target) {
	store := target.Store
	unlock, err := store.Lock(t.Context(), "key/namespaces/shop/keys/orders")
	if err != nil {
		t.Fatalf("Lock: %v", err)
	}
	if _, ok, err := store.TryLock(t.Context(), "key/namespaces/shop/keys/orders"); ok || err != nil {
		t.Errorf("TryLock of a lock that is held: %v, %v", ok, err)
	}
	other, ok, err := store.TryLock(t.Context(), "objects")
	if !ok || err != nil {
		t.Fatalf("TryLock of another lock: %v, %v", ok, err)
	}
	other()
	if _, err := store.Lock(cancelled(t), "key/namespaces/shop/keys/orders"); err == nil {
		t.Error("Lock does not end with its context")
	}
	unlock()
	unlock, ok, err = store.TryLock(t.Context(), "key/namespaces/shop/keys/orders")
	if !ok || err != nil {
		t.Fatalf("TryLock of a lock that was released: %v, %v", ok, err)
	}
	unlock()
}

// testLocksExcludeOthers holds that a lock excludes all others, other processes too where the
// store is shared, and that whoever
// waits gets it in the end.
func testLocksExcludeOthers(t *testing.T, target *Target) {
	a, b := target.Store, target.second(t)
	unlock, err := a.Lock(t.Context(), "objects")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := b.TryLock(t.Context(), "objects"); ok || err != nil {
		t.Errorf("TryLock of a lock that another process holds: %v, %v", ok, err)
	}
	var released atomic.Bool
	done := make(chan error)
	go func() {
		unlock, err := b.Lock(t.Context(), "objects")
		if err == nil {
			if !released.Load() {
				err = errors.New("two processes hold the lock")
			}
			unlock()
		}
		done <- err
	}()
	released.Store(true)
	unlock()
	if err := <-done; err != nil {
		t.Errorf("Lock: %v", err)
	}
}

// testListen holds that other processes are woken by changes and by what a replica has
// applied, and that Listen ends with its context.
func testListen(t *testing.T, target *Target) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken := make(chan struct{}, 1)
	ended := make(chan struct{})
	listen := func(store kms.Store) {
		store.Listen(ctx, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
		close(ended)
	}
	if target.Store.Exclusive() {
		go listen(target.Store)
		cancel()
		<-ended
		return
	}
	go listen(target.second(t))
	<-woken // by its own begin: what came before may have been missed
	lease := sampleLease("a")
	if _, err := target.Store.InsertLease(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	wakers := map[string]func() error{
		"a change": func() error {
			_, err := put(t.Context(), target.Store, &kms.Change{})
			return err
		},
		"a renewal that has applied more": func() error {
			lease.Counter++
			lease.Applied++
			_, err := target.Store.RenewLease(t.Context(), lease)
			return err
		},
	}
	for name, act := range wakers {
		if err := act(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		select {
		case <-woken:
		case <-time.After(30 * time.Second):
			t.Errorf("nobody was woken by %s", name)
		}
	}
	cancel()
	<-ended
}

// testClock: a store that has a clock of its own tells its time.
func testClock(t *testing.T, target *Target) {
	before := time.Now()
	at, err := target.Store.Clock(t.Context())
	if err != nil {
		t.Fatalf("Clock: %v", err)
	}
	if target.Store.Exclusive() != at.IsZero() {
		t.Errorf("the clock is at %v", at)
	}
	const apart = time.Minute // the servers of tests run on this machine
	if !at.IsZero() && (at.Before(before.Add(-apart)) || at.After(time.Now().Add(apart))) {
		t.Errorf("the clock is at %v, and here it is %v", at, before)
	}
}
