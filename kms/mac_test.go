package kms_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"slices"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// Tags verify whole and under their own version only, alone and in batches.
func TestMacs(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	for _, a := range algorithmsOf(kms.PurposeMAC) {
		name := w.createKey("mac"+a.String()[len(a.String())-3:], a)
		message := []byte("to be authenticated")
		made, err := w.service.GenerateMac(t.Context(), admin, &kms.GenerateMacRequest{Key: name, Message: message})
		if err != nil || made.Version != name.Version(1) || made.Algorithm != a || len(made.Mac) != a.Hash().Size() {
			t.Fatalf("GenerateMac: %+v, %v", made, err)
		}
		second := w.rotate(name)
		changed := slices.Clone(made.Mac)
		changed[0] ^= 1
		for what, test := range map[string]struct {
			mac     []byte
			message string
			version kms.VersionName
			valid   bool
		}{
			"as made":         {made.Mac, string(message), name.Version(1), true},
			"changed":         {changed, string(message), name.Version(1), false},
			"truncated":       {made.Mac[:16], string(message), name.Version(1), false},
			"longer":          {append(slices.Clone(made.Mac), 0), string(message), name.Version(1), false},
			"another message": {made.Mac, "x", name.Version(1), false},
			"another version": {made.Mac, string(message), second, false},
		} {
			r, err := w.service.VerifyMac(t.Context(), admin,
				&kms.VerifyMacRequest{Version: test.version, Message: []byte(test.message), Mac: test.mac})
			if err != nil || r.Valid != test.valid || r.Version != test.version || r.Algorithm != a {
				t.Errorf("%s, %s: %+v, %v", a, what, r, err)
			}
		}
		w.wantUsage(name.Version(1), kms.ActionGenerateMac, 1)
		w.wantUsage(name.Version(1), kms.ActionVerifyMac, 5)

		items := []kms.MacItem{{Message: []byte("1")}, {}, {Message: []byte("3"), Version: name.Version(1)}}
		batch, err := w.service.BatchGenerateMac(t.Context(), admin,
			&kms.BatchGenerateMacRequest{Parent: name.Namespace(), Key: name, Items: items})
		if err != nil || batch[0].Err != nil || !errors.Is(batch[1].Err, kms.ErrInvalidRequest) || batch[2].Err != nil ||
			batch[0].Version != second || batch[2].Version != name.Version(1) {
			t.Fatalf("BatchGenerateMac: %+v, %v", batch, err)
		}
		for i := range items {
			items[i].Mac, items[i].Version = batch[i].Mac, batch[i].Version
		}
		items = append(items, kms.MacItem{Message: []byte("1"), Mac: batch[2].Mac})
		verdicts, err := w.service.BatchVerifyMac(t.Context(), admin,
			&kms.BatchVerifyMacRequest{Parent: name.Namespace(), Key: name, Items: items})
		if err != nil || !verdicts[0].Valid || !errors.Is(verdicts[1].Err, kms.ErrInvalidRequest) || !verdicts[2].Valid ||
			verdicts[3].Valid || verdicts[3].Err != nil {
			t.Fatalf("BatchVerifyMac: %+v, %v", verdicts, err)
		}
	}
}

// A row does not hold a tag that would verify.
func TestMacCheckValueIsNoTag(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	name := w.createKey("mac", kms.AlgorithmHMACSHA256)
	uid := w.uid(name.Version(1))
	made, err := w.service.GenerateMac(t.Context(), admin, &kms.GenerateMacRequest{
		Key: name, Message: append([]byte("keyholt mac check value"), uid[:]...),
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := w.service.GetKeyVersion(t.Context(), admin, name.Version(1))
	if err != nil || len(v.Check) != 32 || hmac.Equal(made.Mac, v.Check) {
		t.Errorf("the check value is %x, a tag %x, %v", v.Check, made.Mac, err)
	}
}

// What is encrypted with the public key, by Go's crypto, the version decrypts; all that
// can be wrong with a ciphertext of the right length is one error.
func TestAsymmetricDecryption(t *testing.T) {
	t.Parallel()
	for _, a := range algorithmsOf(kms.PurposeAsymmetricDecrypt) {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			w := newKeyWorld(t, nil)
			name := w.createKey("k", a)
			public, ok := w.publicKey(name.Version(1)).(*rsa.PublicKey)
			if !ok {
				t.Fatal("no RSA key")
			}
			encrypt := func(key *rsa.PublicKey, label, plaintext []byte) []byte {
				ciphertext, err := rsa.EncryptOAEP(a.Hash().New(), rand.Reader, key, plaintext, label)
				if err != nil {
					t.Fatal(err)
				}
				return ciphertext
			}
			decrypt := func(ciphertext []byte) (*kms.AsymmetricDecryptResult, error) {
				return w.service.AsymmetricDecrypt(t.Context(), admin, &kms.AsymmetricDecryptRequest{Key: name, Ciphertext: ciphertext})
			}
			longest := bytes.Repeat([]byte{7}, public.Size()-2*a.Hash().Size()-2)
			for _, plaintext := range [][]byte{{}, []byte("secret"), longest} {
				r, err := decrypt(encrypt(public, nil, plaintext))
				if err != nil || !bytes.Equal(r.Plaintext, plaintext) || r.Version != name.Version(1) || r.Algorithm != a {
					t.Fatalf("AsymmetricDecrypt: %+v, %v", r, err)
				}
			}
			changed := encrypt(public, nil, []byte("secret"))
			changed[len(changed)-1] ^= 1
			message := ""
			for what, ciphertext := range map[string][]byte{
				"changed":    changed,
				"with label": encrypt(public, []byte("label"), []byte("secret")),
				"zero":       make([]byte, public.Size()),
				"too large":  bytes.Repeat([]byte{0xff}, public.Size()),
			} {
				r, err := decrypt(ciphertext)
				wantError(t, err, kms.ErrDecryptionFailed, what)
				if message == "" {
					message = err.Error()
				}
				if r != nil || err.Error() != message {
					t.Errorf("%s: %v, %q, others %q", what, r, err, message)
				}
			}
			asked := w.faults.Count(hsmtest.MethodDecryptOAEP)
			for _, size := range []int{1, public.Size() - 1, public.Size() + 1} {
				_, err := decrypt(make([]byte, size))
				want := kms.ErrMalformedCiphertext
				wantError(t, err, want, "a ciphertext of another length")
			}
			if n := w.faults.Count(hsmtest.MethodDecryptOAEP); n != asked {
				t.Errorf("the token was asked %d times", n-asked)
			}
		})
	}
}

// From when the public key of a decryption key is known, somebody may have encrypted with it.
func TestPublicKeyOfADecryptionKeyIsUse(t *testing.T) {
	t.Parallel()
	w := newKeyWorld(t, nil)
	signs, decrypts := w.createKey("signs", kms.AlgorithmECP256SHA256), w.createKey("decrypts", kms.AlgorithmRSA2048OAEPSHA256)
	for _, name := range []kms.KeyName{signs, decrypts} {
		w.publicKey(name.Version(1))
		_, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: name.Version(1), Reason: "test"})
		if want := name == decrypts; errors.Is(err, kms.ErrDataLoss) != want || err != nil != want {
			t.Errorf("%s: revoked without accepting data loss: %v", name, err)
		}
	}
}
