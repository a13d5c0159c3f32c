package kms_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// dataWorld is a world with a key that works and one that is to be broken.
type dataWorld struct {
	*world
	good, bad kms.KeyName
	spy       *secretSpy
}

func newDataWorld(t *testing.T, p kms.Profile) *dataWorld {
	spy := &secretSpy{}
	w := &dataWorld{spy: spy, world: newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		spy.Token = c.Token
		c.Token = spy
	})}
	w.good, w.bad = w.create("good", p), w.create("bad", p)
	return w
}

// secretSpy is a token that keeps hold of the memory in which it has given out secrets.
type secretSpy struct {
	hsm.Token
	mu   sync.Mutex
	kept [][]byte
}

func (s *secretSpy) keep(p []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, p)
}

func (s *secretSpy) Random(ctx context.Context, p []byte) error {
	s.keep(p)
	return s.Token.Random(ctx, p)
}

func (s *secretSpy) Open(ctx context.Context, key hsm.UID, items []hsm.OpenItem) error {
	err := s.Token.Open(ctx, key, items)
	for i := range items {
		if len(items[i].AAD) > 100 { // of a request, and not the check of a version
			s.keep(items[i].Plaintext)
		}
	}
	return err
}

// left returns how many of the secrets since the last call are not wiped.
func (s *secretSpy) left() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.kept {
		if slices.ContainsFunc(p, func(b byte) bool { return b != 0 }) {
			n++
		}
	}
	s.kept = nil
	return n
}

// breakKey makes token calls with a version of a key fail.
func (w *dataWorld) breakKey(uid hsm.UID, err error) {
	for _, m := range []hsmtest.Method{hsmtest.MethodEncryptBlocks, hsmtest.MethodSeal, hsmtest.MethodOpen} {
		w.faults.Hook(m, func(_ context.Context, call hsmtest.Call) error {
			if call.Key == uid {
				return err
			}
			return nil
		})
	}
}

// longContext makes what ciphertexts are bound to longer than any check value's.
func longContext() kms.Binding { return kms.Binding{AAD: make([]byte, 200)} }

func (w *dataWorld) ciphertexts(key kms.KeyName) (wrapped, encrypted []byte) {
	w.t.Helper()
	keys, err := w.service.GenerateDataKeys(w.t.Context(), admin,
		&kms.GenerateDataKeysRequest{Key: key, Count: 1, Binding: longContext()})
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := w.service.Encrypt(w.t.Context(), admin,
		&kms.EncryptRequest{Key: key, Plaintext: kms.Secret("payload"), Binding: longContext()})
	if err != nil {
		w.t.Fatal(err)
	}
	return keys[0].Wrapped, r.Ciphertext
}

// outcome is what became of one item.
type outcome struct {
	made      bool
	err       error
	rewrapped bool
	rewrapErr error
}

// dataOperation is a batch operation on items that each belong to one of several keys.
type dataOperation struct {
	name  string
	opens bool // under the version that made the ciphertexts
	seals bool // under the primary version, and an item that is not sealed fails
	call  func(w *dataWorld, keys []kms.KeyName, of map[kms.KeyName][2][]byte) ([]outcome, error)
}

func dataOperations() []dataOperation {
	keyItems := func(keys []kms.KeyName, of map[kms.KeyName][2][]byte) []kms.DataKeyItem {
		items := make([]kms.DataKeyItem, len(keys))
		for i, key := range keys {
			items[i].Wrapped = of[key][0]
		}
		return items
	}
	keyOutcomes := func(results []kms.DataKeyResult, err error) ([]outcome, error) {
		outcomes := make([]outcome, len(results))
		for i, r := range results {
			outcomes[i] = outcome{len(r.DataKey)+len(r.Wrapped) > 0, r.Err, len(r.Wrapped) > 0, r.RewrapErr}
		}
		return outcomes, err
	}
	payloadOutcomes := func(results []kms.PayloadResult, err error) ([]outcome, error) {
		outcomes := make([]outcome, len(results))
		for i, r := range results {
			outcomes[i] = outcome{made: len(r.Plaintext)+len(r.Ciphertext) > 0, err: r.Err}
		}
		return outcomes, err
	}
	return []dataOperation{
		{"UnwrapDataKeys", true, false, func(w *dataWorld, keys []kms.KeyName, of map[kms.KeyName][2][]byte) ([]outcome, error) {
			return keyOutcomes(w.service.UnwrapDataKeys(w.t.Context(), admin, &kms.UnwrapDataKeysRequest{
				Parent: w.good.Namespace(), Items: keyItems(keys, of), Binding: longContext(),
			}))
		}},
		{"UnwrapDataKeys with a rewrap", true, false, func(w *dataWorld, keys []kms.KeyName, of map[kms.KeyName][2][]byte) ([]outcome, error) {
			return keyOutcomes(w.service.UnwrapDataKeys(w.t.Context(), admin, &kms.UnwrapDataKeysRequest{
				Parent: w.good.Namespace(), Items: keyItems(keys, of), Binding: longContext(), RewrapToPrimary: true,
			}))
		}},
		{"RewrapDataKeys", true, true, func(w *dataWorld, keys []kms.KeyName, of map[kms.KeyName][2][]byte) ([]outcome, error) {
			return keyOutcomes(w.service.RewrapDataKeys(w.t.Context(), admin, &kms.RewrapDataKeysRequest{
				Parent: w.good.Namespace(), Items: keyItems(keys, of), Binding: longContext(),
			}))
		}},
		{"WrapDataKeys", false, true, func(w *dataWorld, keys []kms.KeyName, _ map[kms.KeyName][2][]byte) ([]outcome, error) {
			items := make([]kms.DataKeyItem, len(keys))
			for i, key := range keys {
				items[i] = kms.DataKeyItem{Key: key, DataKey: make(kms.Secret, 32)}
			}
			return keyOutcomes(w.service.WrapDataKeys(w.t.Context(), admin, &kms.WrapDataKeysRequest{Parent: w.good.Namespace(), Items: items}))
		}},
		{"BatchDecrypt", true, false, func(w *dataWorld, keys []kms.KeyName, of map[kms.KeyName][2][]byte) ([]outcome, error) {
			items := make([]kms.PayloadItem, len(keys))
			for i, key := range keys {
				items[i].Ciphertext = of[key][1]
			}
			return payloadOutcomes(w.service.BatchDecrypt(w.t.Context(), admin, &kms.BatchDecryptRequest{
				Parent: w.good.Namespace(), Items: items, Binding: longContext(),
			}))
		}},
		{"BatchEncrypt", false, true, func(w *dataWorld, keys []kms.KeyName, _ map[kms.KeyName][2][]byte) ([]outcome, error) {
			items := make([]kms.PayloadItem, len(keys))
			for i, key := range keys {
				items[i] = kms.PayloadItem{Key: key, Plaintext: kms.Secret("payload")}
			}
			return payloadOutcomes(w.service.BatchEncrypt(w.t.Context(), admin, &kms.BatchEncryptRequest{Parent: w.good.Namespace(), Items: items}))
		}},
	}
}
