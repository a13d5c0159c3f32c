package kms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// dataWorld is a world with a key that works and one that can be broken, both of two
// versions.
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

// A key version that the token cannot use, while it is well, fails its own items of a batch of
// data keys or payloads, however many there are of it and whether they are opened or sealed.
// If the token serves no version of the request, the request fails.
func TestOneBrokenKeyOfADataBatch(t *testing.T) {
	t.Parallel()
	for _, profile := range []kms.Profile{kms.ProfileDerived, kms.ProfileStrict} {
		for what, fault := range map[string]struct{ token, want error }{
			"does not answer": {hsm.ErrUnavailable, kms.ErrTokenUnavailable},
			"missing":         {hsm.ErrKeyNotFound, kms.ErrVersionUnavailable},
			"refused":         {hsm.ErrKeyNotPermitted, kms.ErrTokenRefused},
		} {
			t.Run(fmt.Sprint(profile, " ", what), func(t *testing.T) {
				t.Parallel()
				w := newDataWorld(t, profile)
				of := make(map[kms.KeyName][2][]byte)
				for _, key := range []kms.KeyName{w.good, w.bad} {
					wrapped, encrypted := w.ciphertexts(key)
					of[key] = [2][]byte{wrapped, encrypted}
					if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: key}); err != nil {
						t.Fatal(err)
					}
				}
				for number := range uint32(2) {
					broken := w.uid(w.bad.Version(number + 1))
					w.eachBatch(of, func(o dataOperation, keys []kms.KeyName, outcomes []outcome, err error) {
						fails := o.opens && number == 0 || o.seals && number == 1
						w.checkBrokenKey(t, fmt.Sprintf("%s, version %d", o.name, number+1), keys, fails, fault.want, outcomes, err)
						if o.name == "UnwrapDataKeys with a rewrap" && number == 1 {
							w.checkRewraps(t, keys, fault.want, outcomes)
						}
					}, broken, fault.token)
				}
			})
		}
	}
}

// eachBatch makes batches of both keys with each operation while token calls with a version
// fail, in a service that has used the version before and in one that has not.
func (w *dataWorld) eachBatch(
	of map[kms.KeyName][2][]byte, check func(dataOperation, []kms.KeyName, []outcome, error), broken hsm.UID, fault error,
) {
	for range 2 {
		for _, o := range dataOperations() {
			for _, keys := range [][]kms.KeyName{{w.good, w.bad, w.bad, w.good}, {w.good, w.bad}, {w.bad, w.bad, w.good}} {
				w.breakKey(broken, fault)
				w.spy.left()
				outcomes, err := o.call(w, keys, of)
				w.breakKey(broken, nil)
				check(o, keys, outcomes, err)
			}
		}
		w.restart()
	}
}

// checkBrokenKey checks results and record of a batch whose items of the bad key fail, or none.
func (w *dataWorld) checkBrokenKey(
	t *testing.T, what string, keys []kms.KeyName, fails bool, want error, outcomes []outcome, err error,
) {
	t.Helper()
	if err != nil || len(outcomes) != len(keys) {
		t.Errorf("%s: %d results, %v", what, len(outcomes), err)
		return
	}
	event, recorded := w.auditor.last(), []error{}
	for _, item := range event.Items {
		for range item.Count {
			recorded = append(recorded, item.Err)
		}
	}
	if event.Err != nil || len(recorded) != len(keys) {
		t.Errorf("%s: the record: %+v", what, event)
		return
	}
	for i, o := range outcomes {
		if isBad := fails && keys[i] == w.bad; isBad != errors.Is(o.err, want) || isBad != errors.Is(recorded[i], want) ||
			isBad == o.made || !isBad && (o.err != nil || recorded[i] != nil) {
			t.Errorf("%s, item %d of %d: made %t, %v; recorded %v", what, i, len(keys), o.made, o.err, recorded[i])
		}
	}
}

// checkRewraps checks that a data key whose rewrap was not made came out all the same, and that
// the record tells of no version that made one.
func (w *dataWorld) checkRewraps(t *testing.T, keys []kms.KeyName, want error, outcomes []outcome) {
	t.Helper()
	var targets []kms.VersionName
	for _, item := range w.auditor.last().Items {
		for range item.Count {
			targets = append(targets, item.Target)
		}
	}
	for i, o := range outcomes {
		isBad := keys[i] == w.bad
		if isBad != errors.Is(o.rewrapErr, want) || isBad == o.rewrapped || isBad != targets[i].IsZero() {
			t.Errorf("item %d of %d: rewrapped %t, %v; recorded target %q", i, len(keys), o.rewrapped, o.rewrapErr, targets[i])
		}
	}
}

// What concerns all fails a batch of several keys as a whole: a token that serves none of
// them, and one for which too many wait. Nothing is released, and recorded as if it were.
func TestADataBatchThatFailsAsAWhole(t *testing.T) {
	t.Parallel()
	for _, profile := range []kms.Profile{kms.ProfileDerived, kms.ProfileStrict} {
		t.Run(profile.String(), func(t *testing.T) {
			t.Parallel()
			w := newDataWorld(t, profile)
			of := make(map[kms.KeyName][2][]byte)
			for _, key := range []kms.KeyName{w.good, w.bad} {
				wrapped, encrypted := w.ciphertexts(key)
				of[key] = [2][]byte{wrapped, encrypted}
			}
			both := []kms.KeyName{w.good, w.bad, w.good}
			w.spy.left()
			for _, o := range dataOperations() {
				for what, fault := range map[string]struct {
					uid   hsm.UID
					keys  []kms.KeyName
					token error
					want  error
				}{
					"the broken key alone": {w.uid(w.bad.Version(1)), []kms.KeyName{w.bad, w.bad}, hsm.ErrUnavailable, kms.ErrTokenUnavailable},
					"too many wait":        {w.uid(w.bad.Version(1)), both, hsm.ErrBusy, kms.ErrOverloaded},
				} {
					w.breakKey(fault.uid, fault.token)
					w.checkWhole(t, o.name+", "+what, fault.want, second(o.call(w, fault.keys, of)))
				}
				w.faults.Hook(hsmtest.MethodEncryptBlocks, func(context.Context, hsmtest.Call) error { return hsm.ErrLoginLost })
				w.faults.Hook(hsmtest.MethodOpen, func(context.Context, hsmtest.Call) error { return hsm.ErrLoginLost })
				w.faults.Hook(hsmtest.MethodSeal, func(context.Context, hsmtest.Call) error { return hsm.ErrLoginLost })
				w.checkWhole(t, o.name+", a token without its login", kms.ErrTokenUnavailable, second(o.call(w, both, of)))
			}
		})
	}
}

func (w *dataWorld) checkWhole(t *testing.T, what string, want, err error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	event := w.auditor.last()
	if !errors.Is(event.Err, want) || len(event.Items) == 0 {
		t.Errorf("%s: the record: %+v", what, event)
	}
	for _, item := range event.Items {
		if !errors.Is(item.Err, want) {
			t.Errorf("%s: a recorded item: %v", what, item.Err)
		}
	}
	if n := w.spy.left(); n != 0 {
		t.Errorf("%s: %d secrets are left", what, n)
	}
}

// Secrets of items that fail are wiped: what was opened of those whose new ciphertext cannot
// be made, and what was drawn.
func TestSecretsOfFailedItemsAreWiped(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{hsm.ErrUnavailable, hsm.ErrKeyNotPermitted} {
		for _, profile := range []kms.Profile{kms.ProfileDerived, kms.ProfileStrict} {
			w := newDataWorld(t, profile)
			of := make(map[kms.KeyName][2][]byte)
			for _, key := range []kms.KeyName{w.good, w.bad} {
				wrapped, _ := w.ciphertexts(key)
				of[key] = [2][]byte{wrapped}
				if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: key}); err != nil {
					t.Fatal(err)
				}
			}
			w.breakKey(w.uid(w.bad.Version(2)), fault)
			w.spy.left()
			for _, o := range dataOperations() {
				if o.name != "RewrapDataKeys" {
					continue
				}
				if _, err := o.call(w, []kms.KeyName{w.bad, w.good, w.bad}, of); err != nil {
					t.Errorf("%v %v: RewrapDataKeys: %v", profile, fault, err)
				}
				if n := w.spy.left(); n != 0 {
					t.Errorf("%v %v: %d plaintexts of a rewrap are left", profile, fault, n)
				}
			}
			if _, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: w.bad, Count: 3}); err == nil {
				t.Errorf("%v %v: data keys of a broken key", profile, fault)
			}
			if n := w.spy.left(); n != 0 {
				t.Errorf("%v %v: data keys that could not be wrapped are left", profile, fault)
			}
		}
	}
}
