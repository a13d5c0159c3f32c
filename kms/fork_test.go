package kms_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// A replica that finds the store at the revision that it has applied, but of another
// history, serves nothing, although no revision is missing: the changes that led there may
// be others than those that it knows.
func TestStoreOfAnotherHistory(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, func(c *kms.Config) { c.Replica.Lease = kms.MinLease })
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	fork := func() {
		w.database.mu.Lock()
		defer w.database.mu.Unlock()
		w.database.head.Seal[0] ^= 1
	}
	until := func(done func(error) bool, what string) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			_, err := w.decrypt(name, ciphertext)
			if done(err) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", what, err)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	fork()
	until(func(err error) bool { return errors.Is(err, kms.ErrStoreWentBack) }, "it serves under another history")
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
	fork()
	until(func(err error) bool { return err == nil }, "it does not serve under its own history again")
}
