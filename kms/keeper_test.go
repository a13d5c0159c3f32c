package kms_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// serveFor uses a key over and over for some time, which must not fail, under one lease.
func (w *world) serveFor(long time.Duration, name kms.KeyName, ciphertext []byte) {
	w.t.Helper()
	before := w.lease()
	for began := time.Now(); time.Since(began) < long; time.Sleep(long / 200) { //nolint:forbidigo // of a synctest bubble
		if got, err := w.decrypt(name, ciphertext); err != nil || got != "secret" {
			w.t.Fatalf("after %v: %q, %v", time.Since(began), got, err)
		}
	}
	after := w.lease()
	if after.ID != before.ID || after.Counter < before.Counter+5 {
		w.t.Fatalf("the lease was %+v and is %+v", before, after)
	}
}

// Whatever of a replica hangs, it renews its lease and serves, as long as the store takes
// renewals and it knows all changes.
func TestLeaseIsRenewedWhileOthersHang(t *testing.T) {
	t.Parallel()
	for _, length := range []time.Duration{kms.MinLease, time.Second, kms.DefaultLease, kms.MaxLease} {
		t.Run(length.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, timed func(*kms.Config)) {
				var store *hookedStore
				w := newSharedWorld(t, func(c *kms.Config) {
					timed(c)
					store = newHookedStore(c.Store)
					c.Store, c.Replica.Lease = store, length
				})
				name := w.create("orders", kms.ProfileDerived)
				ciphertext := w.mustEncrypt(name, "secret")
				for _, method := range []string{"Update", "Changes", "Leases"} {
					letGo := store.hang(t, method)
					done := make(chan error, 1)
					go func() {
						_, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: keyName(t, "new")})
						done <- err
					}()
					synctest.Wait()
					w.serveFor(3*length, name, ciphertext)
					letGo()
					<-done //nolint:errcheck // the hang was ended
					w.serveFor(3*length, name, ciphertext)
				}
			})
		})
	}
}
