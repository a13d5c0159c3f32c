package kms_test

import (
	"context"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// someKeys allows an action on some keys, and to admin everything.
type someKeys struct {
	action kms.Action
	keys   map[string]bool
}

func (a someKeys) Authorize(_ context.Context, q *kms.Question) kms.Decision {
	return kms.Decision{Allowed: q.Principal.Name == admin.Name || q.Action == a.action && a.keys[q.Key.ID()]}
}

// Each item of a batch is allowed by itself. Of keys that are not allowed, of another
// purpose, of another namespace or not there the same is said, and batches are allowed
// apart from single calls.
func TestBatchesAreAllowedItemByItem(t *testing.T) {
	t.Parallel()
	for action, batch := range map[kms.Action]func(*world, kms.Principal, []kms.KeyName) ([]error, error){
		kms.ActionBatchSign: func(w *world, p kms.Principal, keys []kms.KeyName) (errs []error, err error) {
			r := &kms.BatchSignRequest{Parent: keys[0].Namespace()}
			for _, key := range keys {
				r.Items = append(r.Items, kms.SignItem{Key: key, Message: []byte("m")})
			}
			results, err := w.service.BatchSign(t.Context(), p, r)
			for _, result := range results {
				errs = append(errs, result.Err)
				if (result.Err == nil) != (result.Signature != nil) {
					t.Errorf("BatchSign: %+v", result)
				}
			}
			return errs, err
		},
		kms.ActionBatchMac: func(w *world, p kms.Principal, keys []kms.KeyName) (errs []error, err error) {
			r := &kms.BatchGenerateMacRequest{Parent: keys[0].Namespace()}
			for _, key := range keys {
				r.Items = append(r.Items, kms.MacItem{Key: key, Message: []byte("m")})
			}
			results, err := w.service.BatchGenerateMac(t.Context(), p, r)
			for _, result := range results {
				errs = append(errs, result.Err)
				if (result.Err == nil) != (result.Mac != nil) {
					t.Errorf("BatchGenerateMac: %+v", result)
				}
			}
			return errs, err
		},
	} {
		w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
			c.Authorizer = someKeys{action, map[string]bool{"mine": true}}
		})
		algorithm := map[kms.Action]kms.Algorithm{kms.ActionBatchSign: kms.AlgorithmECP256SHA256, kms.ActionBatchMac: kms.AlgorithmHMACSHA256}[action]
		mine, theirs := w.createKey("mine", algorithm), w.createKey("theirs", algorithm)
		other := w.createKey("other", kms.AlgorithmAES256)
		elsewhere, err := kms.ParseKeyName("namespaces/elsewhere/keys/mine")
		if err != nil {
			t.Fatal(err)
		}
		caller := kms.Principal{Method: admin.Method, Name: "caller"}
		errs, err := batch(w, caller, []kms.KeyName{mine, theirs, mine, other, keyName(t, "absent"), elsewhere, mine})
		if err != nil || len(errs) != 7 {
			t.Fatalf("%s: %v, %v", action, errs, err)
		}
		text := ""
		for i, err := range errs {
			if i == 0 || i == 2 || i == 6 {
				if err != nil {
					t.Errorf("%s of an allowed key: %v", action, err)
				}
				continue
			}
			wantError(t, err, kms.ErrNotAccessible, string(action))
			if text == "" {
				text = err.Error()
			}
			if err.Error() != text {
				t.Errorf("%s: %q, others %q", action, err, text)
			}
		}
		_, err = w.service.Sign(t.Context(), caller, &kms.SignRequest{Key: mine, Message: []byte("m")})
		wantError(t, err, kms.ErrNotAccessible, "Sign by who may sign batches only")
		_, err = w.service.Verify(t.Context(), caller, &kms.VerifyRequest{Key: mine, Message: []byte("m"), Signature: []byte("s")})
		wantError(t, err, kms.ErrNotAccessible, "Verify by who may sign only")
		_, err = w.service.GetPublicKey(t.Context(), caller, &kms.GetPublicKeyRequest{Key: mine})
		wantError(t, err, kms.ErrNotAccessible, "GetPublicKey by who may sign only")
	}
}
