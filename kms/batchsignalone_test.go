package kms_test

import (
	"context"
	"errors"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// brokenKey is a token that signs with all keys but one, whose operations fail for a reason
// that it does not tell, while the token is well.
type brokenKey struct {
	hsm.Token
	key *hsm.UID
}

func (b brokenKey) Sign(ctx context.Context, key hsm.UID, scheme hsm.Scheme, input []byte) ([]byte, error) {
	if key == *b.key {
		return nil, hsm.ErrUnavailable
	}
	return b.Token.Sign(ctx, key, scheme, input)
}

func (b brokenKey) SignBatch(ctx context.Context, key hsm.UID, scheme hsm.Scheme, items []hsm.SignItem) error {
	if key != *b.key {
		return b.Token.SignBatch(ctx, key, scheme, items)
	}
	for i := range items {
		items[i].Err = hsm.ErrUnavailable
	}
	return nil
}

// A key that the token cannot sign with, while it is well, fails its own items of a batch,
// however many there are of it. If the token serves nobody else, the batch fails.
func TestOneBrokenKeyOfABatch(t *testing.T) {
	t.Parallel()
	var broken hsm.UID
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) { c.Token = brokenKey{c.Token, &broken} })
	item := func(id string) kms.SignItem {
		name := keyName(t, id)
		if _, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: name, Algorithm: kms.AlgorithmECP256SHA256}); err != nil {
			t.Fatal(err)
		}
		return kms.SignItem{Key: name, Digest: make([]byte, 32)}
	}
	objects := func() map[hsm.UID]bool {
		list, err := w.memory.Open().Keys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := make(map[hsm.UID]bool)
		for _, object := range list {
			found[object.UID] = true
		}
		return found
	}
	good := item("good")
	before := objects()
	bad := item("broken")
	var uid hsm.UID
	for each := range objects() {
		if !before[each] {
			uid = each
		}
	}
	sign := func(items ...kms.SignItem) ([]kms.SignResult, error) {
		return w.service.BatchSign(t.Context(), admin, &kms.BatchSignRequest{Parent: good.Key.Namespace(), Items: items})
	}
	if results, err := sign(good, bad); err != nil || results[0].Err != nil || results[1].Err != nil {
		t.Fatalf("before it breaks: %+v, %v", results, err)
	}
	for _, when := range []string{"in use", "after a restart"} {
		broken = uid
		for _, items := range [][]kms.SignItem{{good, bad, bad}, {good, bad}, {bad, good, good}} {
			results, err := sign(items...)
			if err != nil {
				t.Errorf("%s, %d items: %v", when, len(items), err)
				continue
			}
			for i, r := range results {
				isBad := items[i].Key == bad.Key
				if errors.Is(r.Err, kms.ErrTokenUnavailable) != isBad || !isBad && r.Err != nil || (len(r.Signature) == 0) != isBad {
					t.Errorf("%s, item %d of %d: a signature of %d bytes, %v", when, i, len(items), len(r.Signature), r.Err)
				}
			}
		}
		broken = hsm.UID{} // the self-test at the start may take any key
		w.restart()
	}
	broken = uid
	wantError(t, second(sign(bad)), kms.ErrTokenUnavailable, "a batch of the broken key alone")
}
