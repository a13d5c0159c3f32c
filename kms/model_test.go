package kms_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// model says what a service ought to answer.
type model struct {
	states  []kms.State // of version i+1
	used    []bool
	primary int // index
	blobs   []modelBlob
}

type modelBlob struct {
	bytes     []byte
	plaintext string
	version   int // index
}

// Whatever sequence of rotations, changes of state, uses, faults and restarts: each
// ciphertext opens exactly while its version is ENABLED, and a REVOKED version never
// serves again.
func TestLifecycleAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, hsmtest.MemoryConfig{}, nil)
		defer w.stop()
		profile := rapid.SampledFrom([]kms.Profile{kms.ProfileDerived, kms.ProfileStrict}).Draw(rt, "profile")
		name := w.create("orders", profile)
		m := &model{states: []kms.State{kms.StateEnabled}, used: []bool{false}}
		pick := func(rt *rapid.T) (int, kms.VersionName) {
			i := rapid.IntRange(0, len(m.states)-1).Draw(rt, "version")
			return i, name.Version(uint32(i + 1))
		}
		move := func(rt *rapid.T, i int, to kms.State, err error) {
			from := m.states[i]
			allowed := from == to || from == kms.StateEnabled || from == kms.StateDisabled
			if from == kms.StateRevoked && to != kms.StateRevoked {
				allowed = false
			}
			if allowed != (err == nil) {
				rt.Fatalf("version %d from %s to %s: error %v", i+1, from, to, err)
			}
			if err == nil {
				m.states[i] = to
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"rotate": func(rt *rapid.T) {
				if len(m.states) >= 6 {
					rt.Skip("enough versions")
				}
				if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err != nil {
					rt.Fatalf("RotateKey: %v", err)
				}
				m.states, m.used = append(m.states, kms.StateEnabled), append(m.used, false)
				m.primary = len(m.states) - 1
			},
			"failed rotation": func(rt *rapid.T) {
				w.faults.FailAfter(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1)
				if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name}); err == nil {
					rt.Fatal("RotateKey succeeded without an object")
				}
			},
			"enable": func(rt *rapid.T) {
				i, v := pick(rt)
				_, err := w.service.EnableKeyVersion(t.Context(), admin, v, "")
				move(rt, i, kms.StateEnabled, err)
			},
			"disable": func(rt *rapid.T) {
				i, v := pick(rt)
				_, err := w.service.DisableKeyVersion(t.Context(), admin, v, "")
				move(rt, i, kms.StateDisabled, err)
			},
			"revoke": func(rt *rapid.T) {
				i, v := pick(rt)
				accepted := rapid.Bool().Draw(rt, "accepted")
				_, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "r", DataLossAccepted: accepted})
				if m.states[i] != kms.StateRevoked && m.used[i] && !accepted {
					if !errors.Is(err, kms.ErrDataLoss) {
						rt.Fatalf("revoking a used version: %v", err)
					}
					return
				}
				move(rt, i, kms.StateRevoked, err)
			},
			"encrypt": func(rt *rapid.T) {
				plaintext := fmt.Sprintf("text %d", len(m.blobs))
				ciphertext, err := w.encrypt(name, plaintext)
				if (m.states[m.primary] == kms.StateEnabled) != (err == nil) {
					rt.Fatalf("Encrypt under a primary that is %s: %v", m.states[m.primary], err)
				}
				if err == nil {
					m.used[m.primary] = true
					m.blobs = append(m.blobs, modelBlob{ciphertext, plaintext, m.primary})
				}
			},
			"restart": func(*rapid.T) { w.restart() },
			"": func(rt *rapid.T) {
				for _, b := range m.blobs {
					got, err := w.decrypt(name, b.bytes)
					if (m.states[b.version] == kms.StateEnabled) != (err == nil) || err == nil && got != b.plaintext {
						rt.Fatalf("a ciphertext of version %d, which is %s: %q, %v", b.version+1, m.states[b.version], got, err)
					}
				}
			},
		})
	})
}

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
