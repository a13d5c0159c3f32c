package kms_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// Many callers, with rotations and changes of state among them: every result is right
// or a refusal of the documented kind.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	names := []kms.KeyName{w.create("a", kms.ProfileDerived), w.create("b", kms.ProfileStrict)}
	refusal := func(err error) bool {
		return errors.Is(err, kms.ErrVersionDisabled) || errors.Is(err, kms.ErrNoEnabledPrimary) || errors.Is(err, kms.ErrTokenRefused)
	}
	var running sync.WaitGroup
	for caller := range 8 {
		running.Go(func() {
			for round := range 40 {
				name := names[(caller+round)%2]
				r, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: name, Count: 3})
				if err != nil {
					if !refusal(err) {
						t.Errorf("GenerateDataKeys: %v", err)
					}
					continue
				}
				items := make([]kms.DataKeyItem, len(r))
				for i := range r {
					items[i].Wrapped = r[i].Wrapped
				}
				u, err := w.service.UnwrapDataKeys(t.Context(), admin, &kms.UnwrapDataKeysRequest{Parent: name.Namespace(), Items: items})
				if err != nil {
					t.Errorf("UnwrapDataKeys: %v", err)
					continue
				}
				for i := range u {
					if u[i].Err != nil && !refusal(u[i].Err) || u[i].Err == nil && string(u[i].DataKey) != string(r[i].DataKey) {
						t.Errorf("item %d: %v", i, u[i].Err)
					}
				}
			}
		})
	}
	for change := range 2 {
		running.Go(func() {
			for round := range 10 {
				name := names[change]
				if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err != nil {
					t.Errorf("RotateKey: %v", err)
				}
				v := name.Version(uint32(round + 1))
				if _, err := w.service.DisableKeyVersion(t.Context(), admin, v, ""); err != nil {
					t.Errorf("DisableKeyVersion: %v", err)
				}
				if _, err := w.service.EnableKeyVersion(t.Context(), admin, v, ""); err != nil {
					t.Errorf("EnableKeyVersion: %v", err)
				}
			}
		})
	}
	running.Wait()
	for _, name := range names {
		key, err := w.service.GetKey(t.Context(), admin, name)
		if err != nil || key.VersionCount != 11 || key.Primary != 11 {
			t.Fatalf("%s: %+v, %v", name, key, err)
		}
	}
	if n := w.objects(); n != 22 {
		t.Fatalf("the token holds %d objects, want 22", n)
	}
}

// Callers that race to create one key make one key.
func TestConcurrentCreate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := keyName(t, "orders")
	var running sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 8 {
		running.Go(func() {
			_, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: name})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				made++
			case !errors.Is(err, kms.ErrKeyExists):
				t.Errorf("CreateKey: %v", err)
			}
		})
	}
	running.Wait()
	if made != 1 || w.objects() != 1 {
		t.Fatalf("%d calls made a key, the token holds %d objects", made, w.objects())
	}
}
