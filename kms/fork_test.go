package kms_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// fork makes the history another one, or makes it what it was.
func (d *memoryDatabase) fork() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.head.Seal[0] ^= 1
}

// until decrypts until the outcome is what the test waits for.
func (w *world) until(name kms.KeyName, ciphertext []byte, done func(error) bool, what string) {
	w.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := w.decrypt(name, ciphertext)
		if done(err) {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %v", what, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// A replica that finds the store at the revision that it has applied, but of another
// history, serves nothing, although no revision is missing: the changes that led there may
// be others than those that it knows.
func TestStoreOfAnotherHistory(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, func(c *kms.Config) { c.Replica.Lease = kms.MinLease })
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	w.database.fork()
	w.until(name, ciphertext, func(err error) bool { return errors.Is(err, kms.ErrStoreWentBack) }, "it serves under another history")
	counter := func() (sum uint64) {
		rows, _, err := w.store.Leases(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			sum += row.Counter
		}
		return sum
	}
	before := counter()
	for range 50 {
		_, err := w.decrypt(name, ciphertext)
		wantError(t, err, kms.ErrStoreWentBack, "Decrypt")
		<-time.After(10 * time.Millisecond)
	}
	if after := counter(); after != before {
		t.Errorf("the lease was renewed: from %d to %d", before, after)
	}
	w.database.fork()
	w.until(name, ciphertext, func(err error) bool { return err == nil }, "it does not serve under its own history again")
}

// A replica whose looks at the store hang does not renew its lease in a store of another
// history all the same, and the row says nothing of what it has applied of its own.
func TestNoRenewalInAStoreOfAnotherHistory(t *testing.T) {
	t.Parallel()
	var store *hookedStore
	w := newSharedWorld(t, func(c *kms.Config) {
		store = newHookedStore(c.Store)
		c.Store, c.Replica.Lease = store, kms.MinLease
	})
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	letGo := store.hang(t, "Changes")
	w.database.fork()
	before := w.lease()
	w.until(name, ciphertext, func(err error) bool { return errors.Is(err, kms.ErrStoreWentBack) }, "it renews under another history")
	if after := w.lease(); after.ID != before.ID || after.Counter > before.Counter+1 { // one may have been under way
		t.Errorf("the lease was %+v and is %+v", before, after)
	}
	w.database.fork()
	letGo()
	w.until(name, ciphertext, func(err error) bool { return err == nil }, "it does not serve under its own history again")
}

// A change that its caller waits for is not said to hold everywhere by a replica that finds
// the store to be of another history: the change may be lost.
func TestNoChangeHoldsInAnotherHistory(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, func(c *kms.Config) { c.Replica.Lease = kms.MinLease })
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	dead := &kms.Lease{ID: "dead/1", Counter: 1, Duration: time.Second, Replica: "dead"}
	if _, err := w.store.InsertLease(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	outcome := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := w.service.DisableKeyVersion(ctx, admin, name.Version(1), "test")
		outcome <- err
	}()
	w.until(name, ciphertext, func(err error) bool { return errors.Is(err, kms.ErrVersionDisabled) }, "it does not disable")
	w.database.fork()
	w.until(name, ciphertext, func(err error) bool { return errors.Is(err, kms.ErrStoreWentBack) }, "it serves under another history")
	wantError(t, <-outcome, kms.ErrStillSpreading, "DisableKeyVersion")
	w.database.fork()
	w.until(name, ciphertext, func(err error) bool { return errors.Is(err, kms.ErrVersionDisabled) }, "it does not come back")
	if _, err := w.service.DisableKeyVersion(t.Context(), admin, name.Version(1), "test"); err != nil {
		t.Errorf("repeated: %v", err)
	}
}
