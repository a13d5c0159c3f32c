package kmstest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func testPayloadBatches(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	derived, strict := s.mustCreate("derived", kms.ProfileDerived), s.mustCreate("strict", kms.ProfileStrict)
	all := kms.Binding{Context: map[string]string{"table": "cards"}}
	own := kms.Binding{AAD: []byte("row 2")}
	request := &kms.BatchEncryptRequest{Parent: derived.Namespace(), Key: derived, Binding: all, Items: []kms.PayloadItem{
		{Plaintext: kms.Secret("4111 1111 1111 1111")},
		{Plaintext: kms.Secret("")},
		{Plaintext: kms.Secret("strict"), Key: strict},
		{Plaintext: kms.Secret("own"), Binding: &own},
		{Plaintext: make(kms.Secret, 64<<10+1)},
		{Plaintext: kms.Secret("x"), Key: s.key("absent")},
	}}
	encrypted, err := api.BatchEncrypt(s.ctx, admin, request)
	wantOK(t, err, "BatchEncrypt")
	wantError(t, encrypted[4].Err, kms.ErrLimitExceeded, "BatchEncrypt of a payload that is too large")
	wantError(t, encrypted[5].Err, kms.ErrKeyNotFound, "BatchEncrypt under no key")
	if string(request.Items[0].Plaintext) != "4111 1111 1111 1111" {
		t.Fatal("BatchEncrypt changed the caller's plaintext")
	}

	items := make([]kms.PayloadItem, 4, 8)
	for i := range items {
		wantOK(t, encrypted[i].Err, fmt.Sprintf("item %d", i))
		items[i].Ciphertext = encrypted[i].Ciphertext
	}
	items[2].Key = strict
	items[3].Binding = &own
	flipped := bytes.Clone(encrypted[0].Ciphertext)
	flipped[len(flipped)-1] ^= 1
	wrapped := s.mustGenerate(derived, 1)[0].Wrapped
	items = append(items, kms.PayloadItem{Ciphertext: flipped}, kms.PayloadItem{Ciphertext: encrypted[3].Ciphertext},
		kms.PayloadItem{Ciphertext: wrapped}, kms.PayloadItem{Ciphertext: encrypted[0].Ciphertext, Key: strict})
	decrypted, err := api.BatchDecrypt(s.ctx, admin, &kms.BatchDecryptRequest{Parent: derived.Namespace(), Binding: all, Items: items})
	wantOK(t, err, "BatchDecrypt")
	for i := range 4 {
		if r := decrypted[i]; r.Err != nil || !bytes.Equal(r.Plaintext, request.Items[i].Plaintext) || r.Version != encrypted[i].Version {
			t.Fatalf("item %d: %d bytes under %s, error %v", i, len(r.Plaintext), r.Version, r.Err)
		}
	}
	wantError(t, decrypted[4].Err, kms.ErrDecryptionFailed, "a flipped bit")
	wantError(t, decrypted[5].Err, kms.ErrDecryptionFailed, "an item without its own binding")
	wantError(t, decrypted[6].Err, kms.ErrCiphertextKind, "a wrapped data key")
	wantError(t, decrypted[7].Err, kms.ErrKeyMismatch, "another key than expected")

	// The same ciphertexts, one by one.
	if got := s.mustDecrypt(encrypted[0].Ciphertext, all); got != "4111 1111 1111 1111" {
		t.Fatalf("Decrypt of an item of a batch: %q", got)
	}
	single, err := api.BatchDecrypt(s.ctx, admin, &kms.BatchDecryptRequest{
		Parent: derived.Namespace(), Items: []kms.PayloadItem{{Ciphertext: s.mustEncrypt(derived, "one", kms.Binding{})}},
	})
	wantOK(t, err, "BatchDecrypt of one")
	if string(single[0].Plaintext) != "one" {
		t.Fatalf("BatchDecrypt of what Encrypt made: %v", single[0].Err)
	}
}

func testPayloadBatchLimits(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	name := s.mustCreate("orders", kms.ProfileDerived)
	encrypt := func(items []kms.PayloadItem) ([]kms.PayloadResult, error) {
		return api.BatchEncrypt(s.ctx, admin, &kms.BatchEncryptRequest{Parent: name.Namespace(), Key: name, Items: items})
	}
	_, err := encrypt(nil)
	wantViolation(t, err, "items", "BatchEncrypt of nothing")
	_, err = api.BatchDecrypt(s.ctx, admin, &kms.BatchDecryptRequest{Parent: name.Namespace()})
	wantViolation(t, err, "items", "BatchDecrypt of nothing")
	_, err = encrypt(make([]kms.PayloadItem, kms.MaxItems+1))
	wantError(t, err, kms.ErrLimitExceeded, "BatchEncrypt of too many")

	most := make([]kms.PayloadItem, kms.MaxBatchPlaintext/(64<<10))
	for i := range most {
		most[i].Plaintext = make(kms.Secret, 64<<10)
	}
	encrypted, err := encrypt(most)
	wantOK(t, err, "BatchEncrypt of the most bytes")
	items := make([]kms.PayloadItem, len(encrypted))
	for i := range encrypted {
		items[i].Ciphertext = encrypted[i].Ciphertext
	}
	_, err = api.BatchDecrypt(s.ctx, admin, &kms.BatchDecryptRequest{Parent: name.Namespace(), Items: items})
	wantOK(t, err, "BatchDecrypt of the most bytes")
	_, err = encrypt(append(most, kms.PayloadItem{Plaintext: kms.Secret("x")}))
	wantError(t, err, kms.ErrLimitExceeded, "BatchEncrypt of a byte more")
	more := append(items, kms.PayloadItem{Ciphertext: s.mustEncrypt(name, "x", kms.Binding{})})
	_, err = api.BatchDecrypt(s.ctx, admin, &kms.BatchDecryptRequest{Parent: name.Namespace(), Items: more})
	wantError(t, err, kms.ErrLimitExceeded, "BatchDecrypt of a byte more")
	many, err := encrypt(make([]kms.PayloadItem, kms.MaxItems))
	wantOK(t, err, "BatchEncrypt of the most items")
	for i := range many {
		wantOK(t, many[i].Err, fmt.Sprintf("item %d", i))
	}
}
