package pkcs11hsm_test

import (
	"errors"
	"testing"

	"github.com/keyholt/keyholt/hsm"
)

// TestKeyOfItemsDestroyedElsewhere: a key whose object another process has destroyed is not
// found for a batch of items either, and not taken for a token that does not answer.
func TestKeyOfItemsDestroyedElsewhere(t *testing.T) {
	r := newRig(t, nil)
	sealed := make([]hsm.SealItem, 3)
	for i := range sealed {
		sealed[i] = hsm.SealItem{Plaintext: []byte("plaintext"), AAD: []byte("data")}
	}
	if err := r.token.Seal(t.Context(), r.gcm, sealed); err != nil {
		t.Fatal(err)
	}
	opened := make([]hsm.OpenItem, len(sealed))
	for i, s := range sealed {
		opened[i] = hsm.OpenItem{Nonce: s.Nonce, Sealed: s.Sealed, AAD: s.AAD}
	}
	if err := r.token.Open(t.Context(), r.gcm, opened); err != nil {
		t.Fatal(err)
	}
	elsewhere(t, r.soft, "destroy", r.gcm)
	if err := r.token.Open(t.Context(), r.gcm, opened); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("Open: %v, want %v", err, hsm.ErrKeyNotFound)
	}
	if err := r.token.Seal(t.Context(), r.gcm, sealed); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Errorf("Seal: %v, want %v", err, hsm.ErrKeyNotFound)
	}
	for i := range sealed {
		if sealed[i].Err != nil || sealed[i].Sealed != nil || opened[i].Err != nil || opened[i].Plaintext != nil {
			t.Errorf("item %d: sealed %d bytes, %v; opened %d bytes, %v", i, len(sealed[i].Sealed), sealed[i].Err,
				len(opened[i].Plaintext), opened[i].Err)
		}
	}
	if err := encrypt(t, r.token, r.blocks); err != nil {
		t.Errorf("the other key: %v", err)
	}
}
