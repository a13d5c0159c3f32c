package kms_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

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
