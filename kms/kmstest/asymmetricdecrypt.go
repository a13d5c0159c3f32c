package kmstest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // the hash of an algorithm under test
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func (s *suite) asymmetricDecrypt(r *kms.AsymmetricDecryptRequest) (*kms.AsymmetricDecryptResult, error) {
	return s.Admin.API.AsymmetricDecrypt(s.ctx, s.Admin.Principal, r)
}

// encryptFor encrypts with the public key of a version.
func (s *suite) encryptFor(a kms.Algorithm, version kms.VersionName, plaintext, label []byte) []byte {
	s.Helper()
	encoded, err := s.publicKey(&kms.GetPublicKeyRequest{Version: version, Format: kms.PublicKeyDER})
	wantOK(s, err, "GetPublicKey")
	public, err := x509.ParsePKIXPublicKey(encoded.Key)
	wantOK(s, err, "the public key")
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		s.Fatalf("the public key is a %T", public)
	}
	ciphertext, err := rsa.EncryptOAEP(a.Hash().New(), rand.Reader, key, plaintext, label)
	wantOK(s, err, "EncryptOAEP")
	return ciphertext
}

func testAsymmetricDecrypt(t *testing.T, s *suite) {
	s.supported(kms.PurposeAsymmetricDecrypt, func(a kms.Algorithm, name kms.KeyName) {
		for _, size := range []int{0, 1, 32, a.OutputSize() - 2*a.Hash().Size() - 2} {
			plaintext := bytes.Repeat([]byte{'p'}, size)
			ciphertext := s.encryptFor(a, name.Version(1), plaintext, nil)
			for _, r := range []*kms.AsymmetricDecryptRequest{{Key: name, Ciphertext: ciphertext}, {Version: name.Version(1), Ciphertext: ciphertext}} {
				got, err := s.asymmetricDecrypt(r)
				wantOK(t, err, fmt.Sprintf("%s: AsymmetricDecrypt of %d bytes", a, size))
				if !bytes.Equal(got.Plaintext, plaintext) || got.Version != name.Version(1) || got.Algorithm != a {
					t.Fatalf("%s: %d bytes came back as %+v", a, size, got)
				}
			}
		}

		good := s.encryptFor(a, name.Version(1), []byte("secret"), nil)
		// Whatever is wrong with one of the right length is one error, word for word.
		var texts []string
		for doing, bad := range map[string][]byte{
			"a flipped bit":    flip(good),
			"zeros":            make([]byte, len(good)),
			"ones":             bytes.Repeat([]byte{0xff}, len(good)), // beyond the modulus
			"another label":    s.encryptFor(a, name.Version(1), []byte("secret"), []byte("label")),
			"text":             bytes.Repeat([]byte{'t'}, len(good)),
			"another hash":     s.encryptFor(otherOAEP(a), name.Version(1), []byte("secret"), nil),
			"a one at the end": append(make([]byte, len(good)-1), 1),
		} {
			_, err := s.asymmetricDecrypt(&kms.AsymmetricDecryptRequest{Key: name, Ciphertext: bad})
			texts = append(texts, wantRefusal(t, err, kms.ErrDecryptionFailed, a.String()+": "+doing).Error())
		}
		for _, text := range texts {
			if text != texts[0] {
				t.Fatalf("failures can be told apart: %q and %q", text, texts[0])
			}
		}
		for doing, test := range map[string]struct {
			ciphertext []byte
			want       error
		}{
			"nothing":        {nil, kms.ErrInvalidRequest},
			"a byte":         {[]byte{1}, kms.ErrMalformedCiphertext},
			"a byte less":    {good[1:], kms.ErrMalformedCiphertext},
			"a byte more":    {append([]byte{0}, good...), kms.ErrMalformedCiphertext},
			"far too much":   {make([]byte, kms.MaxSignature+1), kms.ErrLimitExceeded},
			"twice the size": {append(bytes.Clone(good), good...), kms.ErrMalformedCiphertext},
		} {
			_, err := s.asymmetricDecrypt(&kms.AsymmetricDecryptRequest{Key: name, Ciphertext: test.ciphertext})
			wantError(t, err, test.want, a.String()+": "+doing)
		}

		// Another version does not decrypt it, and the old one goes on.
		s.mustRotate(name)
		_, err := s.asymmetricDecrypt(&kms.AsymmetricDecryptRequest{Key: name, Ciphertext: good})
		wantError(t, err, kms.ErrDecryptionFailed, a.String()+": by another version")
		got, err := s.asymmetricDecrypt(&kms.AsymmetricDecryptRequest{Version: name.Version(1), Ciphertext: good})
		wantOK(t, err, a.String()+": by the older version")
		if string(got.Plaintext) != "secret" {
			t.Fatalf("%s: %q", a, []byte(got.Plaintext))
		}
	})
}

func flip(b []byte) []byte {
	flipped := bytes.Clone(b)
	flipped[len(flipped)/2] ^= 1
	return flipped
}

// otherOAEP is the algorithm with the same key and the other hash.
func otherOAEP(a kms.Algorithm) kms.Algorithm {
	if a == kms.AlgorithmRSA2048OAEPSHA1 {
		return kms.AlgorithmRSA2048OAEPSHA256
	}
	return kms.AlgorithmRSA2048OAEPSHA1
}
