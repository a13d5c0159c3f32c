package kms_test

import (
	"context"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// A request that waits in the token while its key version is revoked or disabled gets
// nothing out of it.
func TestStateIsCheckedAgainBeforeRelease(t *testing.T) {
	t.Parallel()
	stop := map[string]func(w *world, v kms.VersionName) error{
		"revoke": func(w *world, v kms.VersionName) error {
			_, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "leaked", DataLossAccepted: true})
			return err
		},
		"disable": func(w *world, v kms.VersionName) error {
			_, err := w.service.DisableKeyVersion(t.Context(), admin, v, "leaked")
			return err
		},
	}
	sentinels := map[string]error{"revoke": kms.ErrVersionRevoked, "disable": kms.ErrVersionDisabled}
	for _, test := range []struct {
		profile kms.Profile
		method  hsmtest.Method
	}{{kms.ProfileDerived, hsmtest.MethodEncryptBlocks}, {kms.ProfileStrict, hsmtest.MethodOpen}} {
		for verb, change := range stop {
			t.Run(test.profile.String()+"/"+verb, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, hsmtest.MemoryConfig{}, nil)
				name := w.create("orders", test.profile)
				ciphertext := w.mustEncrypt(name, "secret")

				gate := w.faults.Hold(test.method)
				type outcome struct {
					plaintext string
					err       error
				}
				done := make(chan outcome, 1)
				go func() {
					plaintext, err := w.decrypt(name, ciphertext)
					done <- outcome{plaintext, err}
				}()
				if err := gate.Await(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				if err := change(w, name.Version(1)); err != nil {
					t.Fatalf("%s: %v", verb, err)
				}
				gate.Release()
				got := <-done
				wantError(t, got.err, sentinels[verb], "Decrypt that was under way")
				if got.plaintext != "" {
					t.Fatalf("it returned %q", got.plaintext)
				}
				if items := w.auditor.last().Items; len(items) != 1 || items[0].Err == nil {
					t.Fatalf("the record says %+v", items)
				}
			})
		}
	}
}

// The same for authorisation: what the authorizer forbids by the time of release, once
// something has changed, is not released.
func TestAuthorisationIsCheckedAgainBeforeRelease(t *testing.T) {
	t.Parallel()
	authorizer := &switchable{allow: true}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) { c.Authorizer = authorizer })
	name := w.create("orders", kms.ProfileDerived)
	other := w.create("other", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	gate := w.faults.Hold(hsmtest.MethodEncryptBlocks)
	done := make(chan error, 1)
	go func() {
		_, err := w.decrypt(name, ciphertext)
		done <- err
	}()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.DisableKeyVersion(t.Context(), admin, other.Version(1), ""); err != nil {
		t.Fatal(err)
	}
	authorizer.set(false)
	gate.Release()
	wantError(t, <-done, kms.ErrNotAccessible, "Decrypt that was under way")
}

// A seal that is under way while its version is revoked is not released either.
func TestSealsAreCheckedAgainBeforeRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	w.mustEncrypt(name, "before")
	gate := w.faults.Hold(hsmtest.MethodEncryptBlocks)
	done := make(chan error, 1)
	var leaked []kms.DataKeyResult
	go func() {
		results, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: name, Count: 3})
		leaked = results
		done <- err
	}()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.RevokeKeyVersion(t.Context(), admin,
		&kms.RevokeRequest{Name: name.Version(1), Reason: "leaked", DataLossAccepted: true}); err != nil {
		t.Fatal(err)
	}
	gate.Release()
	wantError(t, <-done, kms.ErrNoEnabledPrimary, "GenerateDataKeys that was under way")
	if leaked != nil {
		t.Fatalf("it returned %d results", len(leaked))
	}
}

// A revocation does not wait for a token that hangs in other calls.
func TestRevocationDoesNotWaitForOtherCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	gates := []*hsmtest.Gate{w.faults.Hold(hsmtest.MethodEncryptBlocks), w.faults.Hold(hsmtest.MethodGenerateKey)}
	done := make(chan error, 2)
	go func() { _, err := w.encrypt(name, "x"); done <- err }()
	go func() {
		_, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name})
		done <- err
	}()
	for _, gate := range gates {
		if err := gate.Await(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.service.RevokeKeyVersion(t.Context(), admin,
		&kms.RevokeRequest{Name: name.Version(1), Reason: "leaked", DataLossAccepted: true}); err != nil {
		t.Fatalf("RevokeKeyVersion while the token hangs: %v", err)
	}
	for _, gate := range gates {
		gate.Release()
	}
	first, second := <-done, <-done
	if (first == nil) == (second == nil) {
		t.Fatalf("want the encryption refused and the rotation done, got %v and %v", first, second)
	}
}

// Without a record nothing is released, and nothing is lost when the log is back.
func TestNothingIsReleasedWithoutARecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	w.auditor.setFail(errInjected)
	if got, err := w.decrypt(name, ciphertext); got != "" {
		t.Fatalf("Decrypt returned %q, error %v", got, err)
	} else {
		wantError(t, err, kms.ErrAuditUnavailable, "Decrypt")
	}
	_, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: name})
	wantError(t, err, kms.ErrAuditUnavailable, "GenerateDataKeys")
	_, err = w.service.GetKey(t.Context(), admin, name)
	wantError(t, err, kms.ErrAuditUnavailable, "GetKey")
	w.auditor.setFail(nil)
	if got, err := w.decrypt(name, ciphertext); err != nil || got != "secret" {
		t.Fatalf("afterwards Decrypt returned %q, error %v", got, err)
	}
}

func TestNobodyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	for _, nobody := range []kms.Principal{{}, {Name: "unix:0"}, {Method: kms.MethodUnix}} {
		_, err := w.service.ListNamespaces(t.Context(), nobody, kms.Page{})
		wantError(t, err, kms.ErrUnauthenticated, "ListNamespaces by nobody")
		_, err = w.service.Encrypt(t.Context(), nobody, &kms.EncryptRequest{Key: keyName(t, "orders")})
		wantError(t, err, kms.ErrUnauthenticated, "Encrypt by nobody")
	}
}

// A token that fails makes the whole request fail as unavailable, and the items of a
// key that it does not hold fail alone.
func TestTokenErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	gone := w.create("gone", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	wrapped := func(k kms.KeyName) []byte {
		r, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: k})
		if err != nil {
			t.Fatal(err)
		}
		return r[0].Wrapped
	}
	items := []kms.DataKeyItem{{Wrapped: wrapped(name)}, {Wrapped: wrapped(gone)}}

	for _, failure := range []error{hsm.ErrUnavailable, hsm.ErrLoginLost, hsm.ErrClosed} {
		w.faults.FailBefore(hsmtest.MethodEncryptBlocks, failure, 1)
		_, err := w.decrypt(name, ciphertext)
		wantError(t, err, kms.ErrTokenUnavailable, "Decrypt")
	}
	w.faults.FailAfter(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable, 1)
	if got, err := w.decrypt(name, ciphertext); got != "" {
		t.Fatalf("Decrypt returned %q with error %v", got, err)
	}
	w.faults.FailBefore(hsmtest.MethodEncryptBlocks, context.DeadlineExceeded, 1)
	_, err := w.decrypt(name, ciphertext)
	wantError(t, err, context.DeadlineExceeded, "Decrypt")
	w.faults.Clear()

	if err := w.memory.TamperDelete(w.uid(gone.Version(1))); err != nil {
		t.Fatal(err)
	}
	results, err := w.service.UnwrapDataKeys(t.Context(), admin, &kms.UnwrapDataKeysRequest{Parent: name.Namespace(), Items: items})
	if err != nil {
		t.Fatal(err)
	}
	if results[0].Err != nil || len(results[0].DataKey) != 32 {
		t.Fatalf("the key that is there: %v", results[0].Err)
	}
	wantError(t, results[1].Err, kms.ErrVersionUnavailable, "the key that is gone")
}

// A request that waits in the queue before the token while its key version is revoked
// never reaches the token.
func TestQueuedRequestsAreCheckedAtTheToken(t *testing.T) {
	t.Parallel()
	var queue *coalesce.Token
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		queue = coalesce.NewToken(c.Token, coalesce.Config{})
		c.Token = queue
	})
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	gate := w.faults.Hold(hsmtest.MethodEncryptBlocks)
	done := make(chan error, 2)
	decrypt := func() {
		_, err := w.decrypt(name, ciphertext)
		done <- err
	}
	go decrypt()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	go decrypt()
	w.await("a request in the queue", func() bool { return queue.Stats().QueueRequests == 1 })
	if _, err := w.service.RevokeKeyVersion(t.Context(), admin,
		&kms.RevokeRequest{Name: name.Version(1), Reason: "leaked", DataLossAccepted: true}); err != nil {
		t.Fatal(err)
	}
	calls := w.faults.Count(hsmtest.MethodEncryptBlocks)
	gate.Release()
	for range 2 {
		wantError(t, <-done, kms.ErrVersionRevoked, "Decrypt that was under way")
	}
	if n := w.faults.Count(hsmtest.MethodEncryptBlocks); n != calls {
		t.Fatalf("%d more calls reached the token", n-calls)
	}
}
