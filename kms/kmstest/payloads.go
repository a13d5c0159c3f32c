package kmstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

const payloadLimit = 64 << 10

func testPayloads(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		for _, size := range []int{0, 1, 15, 16, 17, 4096, payloadLimit} {
			plaintext := strings.Repeat("x", size)
			first, err := s.encrypt(name, plaintext, kms.Binding{})
			wantOK(t, err, fmt.Sprintf("Encrypt of %d bytes", size))
			if first.Version != name.Version(1) {
				t.Fatalf("Encrypt used %s", first.Version)
			}
			if second := s.mustEncrypt(name, plaintext, kms.Binding{}); bytes.Equal(first.Ciphertext, second) {
				t.Fatal("two encryptions gave the same ciphertext")
			}
			if got := s.mustDecrypt(first.Ciphertext, kms.Binding{}); got != plaintext {
				t.Fatalf("%d bytes came back as %d others", size, len(got))
			}
		}
		v, err := s.Admin.API.GetKeyVersion(s.ctx, s.Admin.Principal, name.Version(1))
		wantOK(t, err, "GetKeyVersion")
		if v.FirstUse.IsZero() {
			t.Fatal("a used version has no time of first use")
		}
	}
	_, err := s.encrypt(s.key("absent"), "x", kms.Binding{})
	wantError(t, err, kms.ErrKeyNotFound, "Encrypt under no key")
	_, err = s.encrypt(kms.KeyName{}, "x", kms.Binding{})
	wantViolation(t, err, "key", "Encrypt without a key")
}

func testPayloadLimits(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	_, err := s.encrypt(name, strings.Repeat("x", payloadLimit+1), kms.Binding{})
	wantError(t, err, kms.ErrLimitExceeded, "Encrypt of more than the limit")

	pairs := make(map[string]string)
	for i := range 65 {
		pairs[fmt.Sprintf("k%d", i)] = "v"
	}
	for doing, b := range map[string]kms.Binding{
		"65 pairs":             {Context: pairs},
		"a context over 8 KiB": {Context: map[string]string{"k": strings.Repeat("v", 8<<10)}},
		"AAD over 64 KiB":      {AAD: make([]byte, 64<<10+1)},
	} {
		_, err := s.encrypt(name, "x", b)
		wantError(t, err, kms.ErrLimitExceeded, "Encrypt with "+doing)
	}
	for doing, context := range map[string]map[string]string{
		"an empty context key":   {"": "v"},
		"a reserved context key": {"keyholt.surface": "v"},
	} {
		_, err := s.encrypt(name, "x", kms.Binding{Context: context})
		wantError(t, err, kms.ErrInvalidRequest, "Encrypt with "+doing)
	}
	delete(pairs, "k0")
	most := kms.Binding{Context: pairs, AAD: make([]byte, 64<<10)}
	if got := s.mustDecrypt(s.mustEncrypt(name, "x", most), most); got != "x" {
		t.Fatalf("with the largest binding: %q", got)
	}
}

func testBindings(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		right := kms.Binding{Context: map[string]string{"tenant": "7", "field": "card"}, AAD: []byte("row 12")}
		ciphertext := s.mustEncrypt(name, "4111", right)
		if got := s.mustDecrypt(ciphertext, right); got != "4111" {
			t.Fatalf("decrypted %q", got)
		}
		var texts []string
		for doing, wrong := range map[string]kms.Binding{
			"no binding":     {},
			"no context":     {AAD: right.AAD},
			"no AAD":         {Context: right.Context},
			"another value":  {Context: map[string]string{"tenant": "8", "field": "card"}, AAD: right.AAD},
			"a pair less":    {Context: map[string]string{"tenant": "7"}, AAD: right.AAD},
			"a pair more":    {Context: map[string]string{"tenant": "7", "field": "card", "x": ""}, AAD: right.AAD},
			"swapped values": {Context: map[string]string{"tenant": "card", "field": "7"}, AAD: right.AAD},
			"another AAD":    {Context: right.Context, AAD: []byte("row 13")},
			"moved boundary": {Context: map[string]string{"tenant": "7", "fieldc": "ard"}, AAD: right.AAD},
		} {
			_, err := s.decrypt(ciphertext, wrong)
			e := wantRefusal(t, err, kms.ErrDecryptionFailed, "Decrypt with "+doing)
			texts = append(texts, e.Error())
		}
		for _, text := range texts {
			if text != texts[0] {
				t.Fatalf("failures can be told apart: %q and %q", text, texts[0])
			}
		}
	}
}

func testBadCiphertexts(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		good := s.mustEncrypt(name, "secret", kms.Binding{})
		for n := range good {
			if _, err := s.decrypt(good[:n], kms.Binding{}); err == nil {
				t.Fatalf("a ciphertext cut to %d of %d bytes opens", n, len(good))
			}
		}
		for bit := range len(good) * 8 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			_, err := s.decrypt(bad, kms.Binding{})
			switch {
			case errors.Is(err, kms.ErrMalformedCiphertext), errors.Is(err, kms.ErrDecryptionFailed),
				errors.Is(err, kms.ErrNotAccessible), errors.Is(err, kms.ErrCiphertextKind):
			default:
				t.Fatalf("bit %d flipped: error %v", bit, err)
			}
		}
		for doing, bad := range map[string][]byte{
			"nothing":        nil,
			"zeros":          make([]byte, 100),
			"text":           []byte(strings.Repeat("vault:v1:", 20)),
			"too much":       append([]byte("KH\x01\x01"), make([]byte, 128<<10)...),
			"unknown format": append([]byte("KH\x07\x01"), good[4:]...),
		} {
			_, err := s.decrypt(bad, kms.Binding{})
			wantError(t, err, kms.ErrMalformedCiphertext, "Decrypt of "+doing)
		}
		_, err := s.decrypt(append(bytes.Clone(good), 0), kms.Binding{})
		wantError(t, err, kms.ErrDecryptionFailed, "Decrypt of a byte too many")

		wrapped := s.mustGenerate(name, 1)[0].Wrapped
		_, err = s.decrypt(wrapped, kms.Binding{})
		wantError(t, err, kms.ErrCiphertextKind, "Decrypt of a wrapped data key")
		_, err = s.Admin.API.ReEncrypt(s.ctx, s.Admin.Principal, &kms.ReEncryptRequest{Parent: name.Namespace(), Ciphertext: wrapped})
		wantError(t, err, kms.ErrCiphertextKind, "ReEncrypt of a wrapped data key")
		data := s.mustEncrypt(name, strings.Repeat("x", 32), kms.Binding{})
		wantError(t, s.mustUnwrap(kms.DataKeyItem{Wrapped: data})[0].Err, kms.ErrCiphertextKind, "unwrap of data")
	}
}

func testTenancy(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	_, err := api.CreateNamespace(s.ctx, admin, s.namespace("shop"))
	wantOK(t, err, "CreateNamespace")
	mine := s.mustCreate("orders", kms.ProfileDerived)
	theirs := s.mustCreateNamed(s.keyIn("shop", "orders"), kms.ProfileDerived)
	ciphertext := s.mustEncrypt(theirs, "secret", kms.Binding{})

	_, foreign := s.decrypt(ciphertext, kms.Binding{})
	wantError(t, foreign, kms.ErrNotAccessible, "Decrypt through another namespace")
	unknown := bytes.Clone(ciphertext)
	unknown[4] ^= 1 // the first byte of the key version's UID
	_, err = s.decrypt(unknown, kms.Binding{})
	wantError(t, err, kms.ErrNotAccessible, "Decrypt under an unknown UID")
	if err.Error() != foreign.Error() {
		t.Fatalf("%q and %q can be told apart", err, foreign)
	}
	r, err := api.Decrypt(s.ctx, admin, &kms.DecryptRequest{Parent: s.namespace("shop"), Ciphertext: ciphertext})
	wantOK(t, err, "Decrypt through its own namespace")
	if string(r.Plaintext) != "secret" || r.Version != theirs.Version(1) {
		t.Fatalf("Decrypt returned %q of %s", []byte(r.Plaintext), r.Version)
	}

	other := s.mustCreate("other", kms.ProfileDerived)
	own := s.mustEncrypt(mine, "x", kms.Binding{})
	_, err = api.Decrypt(s.ctx, admin, &kms.DecryptRequest{Parent: mine.Namespace(), Key: other, Ciphertext: own})
	wantError(t, err, kms.ErrKeyMismatch, "Decrypt that expects another key")
	_, err = api.Decrypt(s.ctx, admin, &kms.DecryptRequest{Parent: mine.Namespace(), Key: mine, Ciphertext: own})
	wantOK(t, err, "Decrypt that expects the right key")
	_, err = api.Decrypt(s.ctx, admin, &kms.DecryptRequest{Ciphertext: own})
	wantViolation(t, err, "parent", "Decrypt without a namespace")
}

func testReEncrypt(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	from := s.mustCreate("from", kms.ProfileDerived)
	to := s.mustCreate("to", kms.ProfileStrict)
	source := kms.Binding{Context: map[string]string{"a": "1"}}
	old := s.mustEncrypt(from, "secret", source)
	s.mustRotate(from)

	r, err := api.ReEncrypt(s.ctx, admin, &kms.ReEncryptRequest{Parent: from.Namespace(), Ciphertext: old, Source: source})
	wantOK(t, err, "ReEncrypt to the primary")
	if r.Source != from.Version(1) || r.Version != from.Version(2) || s.mustDecrypt(r.Ciphertext, source) != "secret" {
		t.Fatalf("ReEncrypt went from %s to %s", r.Source, r.Version)
	}
	destination := kms.Binding{Context: map[string]string{"b": "2"}, AAD: []byte("z")}
	r, err = api.ReEncrypt(s.ctx, admin, &kms.ReEncryptRequest{
		Parent: from.Namespace(), SourceKey: from, Ciphertext: old, Source: source, Key: to, Destination: &destination,
	})
	wantOK(t, err, "ReEncrypt to another key and binding")
	if r.Version != to.Version(1) || s.mustDecrypt(r.Ciphertext, destination) != "secret" {
		t.Fatalf("ReEncrypt went to %s", r.Version)
	}
	_, err = s.decrypt(r.Ciphertext, source)
	wantError(t, err, kms.ErrDecryptionFailed, "Decrypt with the old binding")
	_, err = api.ReEncrypt(s.ctx, admin, &kms.ReEncryptRequest{Parent: from.Namespace(), Ciphertext: old})
	wantError(t, err, kms.ErrDecryptionFailed, "ReEncrypt with the wrong source binding")
	_, err = api.ReEncrypt(s.ctx, admin, &kms.ReEncryptRequest{
		Parent: from.Namespace(), Ciphertext: old, Source: source, Key: s.key("absent"),
	})
	wantError(t, err, kms.ErrKeyNotFound, "ReEncrypt to no key")
	_, err = api.ReEncrypt(s.ctx, admin, &kms.ReEncryptRequest{
		Parent: from.Namespace(), SourceKey: to, Ciphertext: old, Source: source,
	})
	wantError(t, err, kms.ErrKeyMismatch, "ReEncrypt that expects another key")
}

func testCancellation(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.Admin.API.Encrypt(ctx, s.Admin.Principal, &kms.EncryptRequest{Key: name, Plaintext: kms.Secret("x")})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled Encrypt: %v", err)
	}
	_, err = s.Admin.API.RotateKey(ctx, s.Admin.Principal, &kms.RotateKeyRequest{Name: name})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a cancelled RotateKey: %v", err)
	}
	s.mustEncrypt(name, "x", kms.Binding{})
}
