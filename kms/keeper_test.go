package kms_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
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

// An outage is told when it begins, once a minute, and when it ends, whatever the texts of
// its errors are, and so is one that comes and goes all the time.
func TestOutagesAreNotToldAllTheTime(t *testing.T) {
	bubble(t, func(t *testing.T, timed func(*kms.Config)) {
		var log bytes.Buffer
		var store *hookedStore
		newSharedWorld(t, func(c *kms.Config) {
			timed(c)
			store = newHookedStore(c.Store)
			c.Store, c.Replica.Lease = store, time.Second
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		var attempts atomic.Int64
		flaps := false
		failing := func(context.Context) error {
			n := attempts.Add(1)
			if flaps && n%2 == 0 {
				return nil
			}
			return &kms.Error{Sentinel: kms.ErrStoreUnavailable, Message: fmt.Sprintf("read tcp 127.0.0.1:%d: reset", 40_000+n)}
		}
		for _, flaps = range []bool{false, true} {
			log.Reset()
			attempts.Store(0)
			for _, method := range []string{"RenewLease", "InsertLease", "Changes"} {
				store.hook(method, failing)
			}
			time.Sleep(150 * time.Second) //nolint:forbidigo // of a synctest bubble
			synctest.Wait()
			lines, most := strings.Count(log.String(), "\n"), 3
			if flaps {
				most = 2 * 150
			}
			if attempts.Load() < 500 || lines < 2 || lines > most || !strings.Contains(log.String(), "failures_before=") {
				t.Errorf("flapping %v: %d lines of %d attempts:\n%s", flaps, lines, attempts.Load(), log.String()[:min(log.Len(), 2000)])
			}
			for _, method := range []string{"RenewLease", "InsertLease", "Changes"} {
				store.hook(method, nil)
			}
			time.Sleep(5 * time.Second) //nolint:forbidigo // of a synctest bubble
			synctest.Wait()
			if !strings.HasSuffix(log.String()[:strings.LastIndex(log.String(), " revision=")], `"lease and metadata are renewed again"`) {
				t.Errorf("the end is not told:\n%s", log.String()[max(0, log.Len()-500):])
			}
		}
	})
}
