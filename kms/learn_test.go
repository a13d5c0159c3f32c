package kms_test

import (
	"context"
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// newDeafPair starts two replicas, of which the second hears of changes at its own
// renewals only, and those are far apart.
func newDeafPair(t *testing.T, timed func(*kms.Config)) (first, deaf *world, store *hookedStore) {
	t.Helper()
	first = newSharedWorld(t, func(c *kms.Config) {
		timed(c)
		c.Replica.Lease = kms.MaxLease
	})
	deaf, store = first.newHookedReplica(func(_ *kms.Config, s *hookedStore) { s.deaf = true })
	return first, deaf, store
}

// rotateUnheard rotates a key, which the deaf replica does not know of, and returns a
// wrapped data key of the new version. await ends the wait for the deaf one.
func rotateUnheard(t *testing.T, first, deaf *world, name kms.KeyName) (wrapped []byte, await func() *kms.RotateKeyResult) {
	t.Helper()
	synctest.Wait() // the deaf one looks no more
	var result *kms.RotateKeyResult
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		result, err = first.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name})
	}()
	first.awaitPrimary(name, 2)
	wrapped = first.wrap(name)
	_, unknown := deaf.service.GetKeyVersion(t.Context(), admin, name.Version(2))
	wantError(t, unknown, kms.ErrVersionNotFound, "GetKeyVersion at the deaf replica")
	return wrapped, func() *kms.RotateKeyResult {
		<-done
		if err != nil {
			t.Fatalf("RotateKey: %v", err)
		}
		return result
	}
}

// wrap returns a wrapped data key.
func (w *world) wrap(name kms.KeyName) []byte {
	w.t.Helper()
	keys, err := w.service.GenerateDataKeys(w.t.Context(), admin, &kms.GenerateDataKeysRequest{Key: name, Count: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	return keys[0].Wrapped
}

func (w *world) unwrap(name kms.KeyName, wrapped ...[]byte) []kms.DataKeyResult {
	w.t.Helper()
	request := &kms.UnwrapDataKeysRequest{Parent: name.Namespace()}
	for _, one := range wrapped {
		request.Items = append(request.Items, kms.DataKeyItem{Wrapped: one})
	}
	results, err := w.service.UnwrapDataKeys(w.t.Context(), admin, request)
	if err != nil {
		w.t.Fatalf("UnwrapDataKeys: %v", err)
	}
	return results
}

// A replica serves what another has made a moment ago, before it was told of the version;
// and having looked it up, it acknowledges it.
func TestVersionMadeElsewhereAMomentAgo(t *testing.T) {
	bubble(t, func(t *testing.T, timed func(*kms.Config)) {
		first, deaf, _ := newDeafPair(t, timed)
		name := first.create("orders", kms.ProfileDerived)
		wrapped, await := rotateUnheard(t, first, deaf, name)
		if r := deaf.unwrap(name, wrapped)[0]; r.Err != nil || r.Version != name.Version(2) {
			t.Fatalf("%s: %v", r.Version, r.Err)
		}
		if r := await(); len(r.Spread.Acknowledged) != 2 {
			t.Fatalf("RotateKey: %+v", r.Spread)
		}
	})
}

// While the store fails or hangs, only items of versions that are not known are refused,
// as what can be tried again.
func TestUnknownVersionWhileTheStoreFails(t *testing.T) {
	failures := map[string]func(t *testing.T, s *hookedStore){
		"fails": func(_ *testing.T, s *hookedStore) { s.fail("Changes") },
		"hangs": func(t *testing.T, s *hookedStore) { s.hang(t, "Changes") },
		"times out": func(_ *testing.T, s *hookedStore) {
			s.hook("Changes", func(context.Context) error { return context.DeadlineExceeded })
		},
	}
	for doing, fail := range failures {
		t.Run(doing, func(t *testing.T) {
			bubble(t, func(t *testing.T, timed func(*kms.Config)) {
				first, deaf, store := newDeafPair(t, timed)
				name := first.create("orders", kms.ProfileDerived)
				old := first.wrap(name)
				deaf.unwrap(name, old)
				wrapped, await := rotateUnheard(t, first, deaf, name)
				fail(t, store)
				results := deaf.unwrap(name, old, wrapped, old)
				for _, i := range []int{0, 2} {
					if results[i].Err != nil {
						t.Fatalf("item %d: %v", i, results[i].Err)
					}
				}
				wantError(t, results[1].Err, kms.ErrStoreUnavailable, "the item of an unknown version")
				store.hook("Changes", nil)
				if err := deaf.unwrap(name, wrapped)[0].Err; err != nil {
					t.Fatalf("when the store answers again: %v", err)
				}
				await()
			})
		})
	}
}

// unknown is a ciphertext of a version that does not exist.
func unknown(of []byte, n int) []byte {
	made := append([]byte(nil), of...)
	binary.BigEndian.PutUint64(made[4:], uint64(n)) // within the version's UID
	return made
}

// Ciphertexts of versions that do not exist are refused like others that may not be used,
// and cost the store little, however many come.
func TestUnknownVersionsCostFewLooks(t *testing.T) {
	bubble(t, func(t *testing.T, timed func(*kms.Config)) {
		first, deaf, store := newDeafPair(t, timed)
		name := first.create("orders", kms.ProfileDerived)
		wrapped := first.wrap(name)
		deaf.unwrap(name, wrapped, unknown(wrapped, 0)) // it knows all changes by then, and applies none below
		time.Sleep(time.Second)                         //nolint:forbidigo // of a synctest bubble

		before := store.calls("Changes")
		letGo := store.hang(t, "Changes")
		outcomes := make(chan error, 200)
		for i := range cap(outcomes) {
			go func() {
				results, err := deaf.service.UnwrapDataKeys(t.Context(), admin, &kms.UnwrapDataKeysRequest{
					Parent: name.Namespace(), Items: []kms.DataKeyItem{{Wrapped: unknown(wrapped, i)}},
				})
				if err == nil {
					err = results[0].Err
				}
				outcomes <- err
			}()
		}
		synctest.Wait() // one looks, and all others wait
		if n := store.calls("Changes") - before; n != 1 {
			t.Fatalf("%d looks at once", n)
		}
		letGo()
		for range cap(outcomes) {
			wantError(t, <-outcomes, kms.ErrNotAccessible, "UnwrapDataKeys")
		}
		if n := store.calls("Changes") - before; n != 2 {
			t.Fatalf("200 calls at once took %d looks", n)
		}

		before = store.calls("Changes")
		began := time.Now()
		for i := range 100 {
			wantError(t, deaf.unwrap(name, unknown(wrapped, i), unknown(wrapped, -i), wrapped)[0].Err,
				kms.ErrNotAccessible, "UnwrapDataKeys")
		}
		if n, took := store.calls("Changes")-before, time.Since(began); time.Duration(n) > took/(10*time.Millisecond)+1 {
			t.Fatalf("%d looks in %v", n, took)
		}
	})
}
