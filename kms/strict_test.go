package kms_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// A STRICT version makes as many ciphertexts as its limit and not one more, also
// within one batch, and never forgets across restarts what it had reserved.
func TestStrictLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		c.Strict = kms.StrictLimits{Limit: 50, RotateAt: 1000, Block: 8}
	})
	name := w.create("orders", kms.ProfileStrict)
	generate := func(n int) (made, refused int) {
		results, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: name, Count: n})
		if err != nil {
			wantError(t, err, kms.ErrEncryptionLimit, "GenerateDataKeys")
			return 0, n
		}
		for _, r := range results {
			if r.Err == nil {
				made++
				continue
			}
			refused++
			wantError(t, r.Err, kms.ErrEncryptionLimit, "an item beyond the limit")
			if r.DataKey != nil || r.Wrapped != nil {
				t.Fatal("a refused item carries a key")
			}
		}
		return made, refused
	}
	if made, _ := generate(20); made != 20 { // reserves 24, uses 20
		t.Fatalf("made %d of 20", made)
	}
	w.restart() // the other 4 are wasted
	if made, refused := generate(30); made != 26 || refused != 4 {
		t.Fatalf("after the restart made %d and refused %d, want 26 and 4", made, refused)
	}
	if made, refused := generate(1); made != 0 || refused != 1 {
		t.Fatalf("beyond the limit made %d", made)
	}
	if _, err := w.encrypt(name, "x"); err == nil {
		t.Fatal("Encrypt beyond the limit succeeded")
	} else {
		wantError(t, err, kms.ErrEncryptionLimit, "Encrypt beyond the limit")
	}
	if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	if made, _ := generate(10); made != 10 {
		t.Fatalf("after a rotation made %d of 10", made)
	}
}

// A STRICT key rotates by itself when its primary comes near the limit.
func TestStrictRotatesByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		c.Strict = kms.StrictLimits{Limit: 1000, RotateAt: 16, Block: 8}
	})
	name := w.create("orders", kms.ProfileStrict)
	old := w.mustEncrypt(name, "first")
	for range 15 {
		w.mustEncrypt(name, "x")
	}
	w.awaitPrimary(name, 2)
	if got, err := w.decrypt(name, old); err != nil || got != "first" {
		t.Fatalf("old data: %q, %v", got, err)
	}
	// The record follows the rotation.
	w.await("the record of the rotation", func() bool { return w.auditor.find(kms.ActionRotateKey).Action != "" })
	if e := w.auditor.find(kms.ActionRotateKey); e.Principal.Method != kms.MethodSystem || e.Resource != name.String() {
		t.Fatalf("the record of the rotation: %+v", e)
	}
}

// A disabled primary is left alone, also when it came near its limit before.
func TestDisabledPrimaryRests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		c.Strict = kms.StrictLimits{Limit: 1000, RotateAt: 8, Block: 8}
	})
	name, later := w.create("a", kms.ProfileStrict), w.create("b", kms.ProfileStrict)
	attempts := w.faults.Count(hsmtest.MethodGenerateKey)
	w.faults.FailBefore(hsmtest.MethodGenerateKey, hsm.ErrUnavailable)
	w.mustEncrypt(name, "x")
	w.await("an attempt to rotate", func() bool { return w.faults.Count(hsmtest.MethodGenerateKey) > attempts })
	if _, err := w.service.DisableKeyVersion(t.Context(), admin, name.Version(1), ""); err != nil {
		t.Fatal(err)
	}
	w.faults.Clear()
	w.mustEncrypt(later, "x")
	w.awaitPrimary(later, 2) // keys are rotated in the order of their names
	if key, err := w.service.GetKey(t.Context(), admin, name); err != nil || key.Primary != 1 {
		t.Fatalf("the key whose primary was disabled: primary %d, error %v", key.Primary, err)
	}
	if _, err := w.service.EnableKeyVersion(t.Context(), admin, name.Version(1), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.UpdateKey(t.Context(), admin, &kms.UpdateKeyRequest{Name: later}); err != nil { // wakes the rotator
		t.Fatal(err)
	}
	w.awaitPrimary(name, 2)
}

// A key rotates by itself when its period has passed, also while the service was down.
func TestRotationByPeriod(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) { c.Now = clock.time })
	name := keyName(t, "orders")
	_, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: name, RotationPeriod: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	resting := w.create("resting", kms.ProfileDerived)
	old := w.mustEncrypt(name, "old")
	clock.advance(23 * time.Hour)
	w.restart()
	if key, err := w.service.GetKey(t.Context(), admin, name); err != nil || key.Primary != 1 {
		t.Fatalf("before its time the primary is %d, error %v", key.Primary, err)
	}
	clock.advance(2 * time.Hour)
	w.restart()
	w.awaitPrimary(name, 2)

	// Shortening the period is acted upon without a restart.
	period := time.Hour
	clock.advance(2 * time.Hour)
	if _, err := w.service.UpdateKey(t.Context(), admin, &kms.UpdateKeyRequest{Name: name, RotationPeriod: &period}); err != nil {
		t.Fatal(err)
	}
	w.awaitPrimary(name, 3)
	if got, err := w.decrypt(name, old); err != nil || got != "old" {
		t.Fatalf("old data: %q, %v", got, err)
	}
	if key, err := w.service.GetKey(t.Context(), admin, resting); err != nil || key.Primary != 1 {
		t.Fatalf("a key without a period: primary %d, error %v", key.Primary, err)
	}
}

// awaitPrimary waits until the key's primary version is n.
func (w *world) awaitPrimary(name kms.KeyName, n uint32) {
	w.t.Helper()
	w.await("primary version", func() bool {
		key, err := w.service.GetKey(w.t.Context(), admin, name)
		if err != nil {
			w.t.Fatal(err)
		}
		return key.Primary == n
	})
}

// await waits until something is so.
func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for !so() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("%s: not so after 30 s", what)
		}
	}
}

// aadSpy counts the different AAD buffers of what it seals and opens.
type aadSpy struct {
	hsm.Token
	buffers map[*byte]bool
}

func (s aadSpy) Seal(ctx context.Context, key hsm.UID, items []hsm.SealItem) error {
	for i := range items {
		s.buffers[&items[i].AAD[0]] = true
	}
	return s.Token.Seal(ctx, key, items)
}

func (s aadSpy) Open(ctx context.Context, key hsm.UID, items []hsm.OpenItem) error {
	for i := range items {
		s.buffers[&items[i].AAD[0]] = true
	}
	return s.Token.Open(ctx, key, items)
}

// The items of a STRICT batch share the bytes of the request's binding, also where they
// alternate with items that have their own: additional data of 64 KiB costs its memory
// once, not 4,096 times.
func TestStrictSharesBinding(t *testing.T) {
	t.Parallel()
	spy := aadSpy{buffers: make(map[*byte]bool)}
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		spy.Token = c.Token
		c.Token = spy
	})
	name := w.create("orders", kms.ProfileStrict)
	binding := kms.Binding{AAD: make([]byte, 64<<10)}
	own := &kms.Binding{AAD: []byte("own")}
	items := make([]kms.DataKeyItem, 100)
	for i := range items {
		items[i].DataKey = make([]byte, 16)
		if i < 20 && i%2 == 1 {
			items[i].Binding = own
		}
	}
	const buffers = 1 + 10
	wrap := func() []kms.DataKeyResult {
		clear(spy.buffers)
		wrapped, err := w.service.WrapDataKeys(t.Context(), admin,
			&kms.WrapDataKeysRequest{Parent: name.Namespace(), Key: name, Binding: binding, Items: items})
		if err != nil {
			t.Fatal(err)
		}
		return wrapped
	}
	wrap() // the check of the object has an AAD of its own
	wrapped := wrap()
	if n := len(spy.buffers); n != buffers {
		t.Errorf("%d AAD buffers to wrap, want %d", n, buffers)
	}
	clear(spy.buffers)
	for i := range items {
		items[i] = kms.DataKeyItem{Wrapped: wrapped[i].Wrapped, Binding: items[i].Binding}
	}
	opened, err := w.service.UnwrapDataKeys(t.Context(), admin,
		&kms.UnwrapDataKeysRequest{Parent: name.Namespace(), Binding: binding, Items: items})
	if err != nil {
		t.Fatal(err)
	}
	for i := range opened {
		if opened[i].Err != nil {
			t.Fatalf("item %d: %v", i, opened[i].Err)
		}
	}
	if n := len(spy.buffers); n != buffers {
		t.Errorf("%d AAD buffers to unwrap, want %d", n, buffers)
	}
}
