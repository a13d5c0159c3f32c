package client_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// signingAlgorithms are those whose adapters are tested: of RSA only the smallest keys, which
// are made in a reasonable time.
func signingAlgorithms() []kms.Algorithm {
	var list []kms.Algorithm
	for _, a := range kms.Algorithms() {
		if a.Purpose() == kms.PurposeAsymmetricSign && a.OutputSize() <= 256 {
			list = append(list, a)
		}
	}
	return list
}

func makeKey(t testing.TB, c *client.Client, a kms.Algorithm) kms.KeyName {
	t.Helper()
	key := nameOf(t, a)
	_, err := c.API().CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: key, Algorithm: a})
	must(t, err)
	return key
}

// nameOf is the name of the key of an algorithm.
func nameOf(t testing.TB, a kms.Algorithm) kms.KeyName {
	t.Helper()
	key, err := kms.ParseKeyName("namespaces/default/keys/" + strings.ToLower(a.String()))
	must(t, err)
	return key
}

// goodOpts ask for what the algorithm does.
func goodOpts(a kms.Algorithm) crypto.SignerOpts {
	if a.IsPSS() {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.Hash()}
	}
	return a.Hash()
}

func digest(a kms.Algorithm, message []byte) []byte {
	if a.SignsMessages() {
		return message
	}
	h := a.Hash().New()
	h.Write(message)
	return h.Sum(nil)
}

// verifies verifies with Go's crypto.
func verifies(public crypto.PublicKey, a kms.Algorithm, message, signature []byte) bool {
	input := digest(a, message)
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, input, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, input, signature)
	case *rsa.PublicKey:
		if a.IsPSS() {
			return rsa.VerifyPSS(key, a.Hash(), input, signature, &rsa.PSSOptions{SaltLength: a.Hash().Size()}) == nil
		}
		return rsa.VerifyPKCS1v15(key, a.Hash(), input, signature) == nil
	}
	return false
}

func TestSigner(t *testing.T) {
	c := dial(t, startServer(t).unix)
	algorithms := signingAlgorithms()
	if len(algorithms) < 10 {
		t.Fatalf("only %d algorithms", len(algorithms))
	}
	for _, a := range algorithms {
		key := makeKey(t, c, a)
		signer, err := c.Signer(t.Context(), key)
		must(t, err)
		if signer.Version() != key.Version(1) || signer.Algorithm() != a || signer.X509Algorithm() == 0 || signer.TLSScheme() == 0 {
			t.Fatalf("%s: signer of %s, %s", a, signer.Version(), signer.Algorithm())
		}
		message := bytes.Repeat([]byte("m"), kms.MaxMessage)
		if !a.SignsMessages() {
			message = append(message, message...) // hashed here, so of any size
		}
		signature, err := signer.Sign(rand.Reader, digest(a, message), goodOpts(a))
		must(t, err)
		if !verifies(signer.Public(), a, message, signature) {
			t.Errorf("%s: the signature of the digest does not verify", a)
		}
		signature, err = crypto.SignMessage(signer, nil, message, goodOpts(a))
		must(t, err)
		if !verifies(signer.Public(), a, message, signature) {
			t.Errorf("%s: the signature of the message does not verify", a)
		}
		raw, err := signer.SignMessageAs(t.Context(), message, kms.SignatureRaw)
		must(t, err)
		if len(raw) != a.OutputSize() {
			t.Errorf("%s: a raw signature of %d bytes", a, len(raw))
		}
		if public, ok := signer.Public().(*ecdsa.PublicKey); ok {
			r, s := new(big.Int).SetBytes(raw[:len(raw)/2]), new(big.Int).SetBytes(raw[len(raw)/2:])
			if !ecdsa.Verify(public, digest(a, message), r, s) {
				t.Errorf("%s: the raw signature does not verify", a)
			}
		}
	}
}

// Options that ask for anything but what the key's algorithm does are refused, before
// anything is sent.
func TestSignerOptions(t *testing.T) {
	c := dial(t, startServer(t).unix)
	pss := func(salt int, h crypto.Hash) *rsa.PSSOptions { return &rsa.PSSOptions{SaltLength: salt, Hash: h} }
	for a, refused := range map[kms.Algorithm][]crypto.SignerOpts{
		kms.AlgorithmECP256SHA256: {
			nil, crypto.SHA1, crypto.SHA384, crypto.SHA3_256, crypto.Hash(0), pss(rsa.PSSSaltLengthEqualsHash, crypto.SHA256),
		},
		kms.AlgorithmEd25519: {
			nil, crypto.SHA512, &ed25519.Options{Hash: crypto.SHA512}, &ed25519.Options{Context: "c"},
		},
		kms.AlgorithmRSA2048PKCS1SHA256: {nil, crypto.SHA512, crypto.Hash(0), pss(rsa.PSSSaltLengthEqualsHash, crypto.SHA256)},
		kms.AlgorithmRSA2048PSSSHA384: {
			nil, crypto.SHA384, pss(rsa.PSSSaltLengthAuto, crypto.SHA384), pss(32, crypto.SHA384),
			pss(rsa.PSSSaltLengthEqualsHash, crypto.SHA256),
		},
	} {
		signer, err := c.Signer(t.Context(), makeKey(t, c, a))
		must(t, err)
		for i, opts := range refused {
			if _, err := signer.Sign(nil, make([]byte, 32), opts); !errors.Is(err, client.ErrSignerOptions) {
				t.Errorf("%s, options %d %+v: %v", a, i, opts, err)
			}
			if _, err := signer.SignMessage(nil, []byte("m"), opts); !errors.Is(err, client.ErrSignerOptions) {
				t.Errorf("%s, options %d %+v, message: %v", a, i, opts, err)
			}
		}
	}
	for a, good := range map[kms.Algorithm]crypto.SignerOpts{
		kms.AlgorithmEd25519:          &ed25519.Options{},
		kms.AlgorithmRSA2048PSSSHA384: pss(48, crypto.SHA384),
	} {
		signer, err := c.Signer(t.Context(), nameOf(t, a))
		must(t, err)
		if _, err := signer.Sign(nil, make([]byte, 48), good); err != nil {
			t.Errorf("%s, %+v: %v", a, good, err)
		}
	}
}

func TestSignerErrors(t *testing.T) {
	c := dial(t, startServer(t).unix)
	ec := makeKey(t, c, kms.AlgorithmECP256SHA256)
	ed := makeKey(t, c, kms.AlgorithmEd25519)
	oaep := makeKey(t, c, kms.AlgorithmRSA2048OAEPSHA256)
	absent := nameOf(t, kms.AlgorithmECP521SHA512)
	for doing, test := range map[string]struct {
		err  error
		want error
	}{
		"an absent key":           {errorOf(c.Signer(t.Context(), absent)), kms.ErrKeyNotFound},
		"an absent version":       {errorOf(c.VersionSigner(t.Context(), ec.Version(7))), kms.ErrVersionNotFound},
		"no key":                  {errorOf(c.Signer(t.Context(), kms.KeyName{})), kms.ErrInvalidRequest},
		"a signer that decrypts":  {errorOf(c.Signer(t.Context(), oaep)), kms.ErrPurpose},
		"a decrypter that signs":  {errorOf(c.Decrypter(t.Context(), ec)), kms.ErrPurpose},
		"an absent decrypter":     {errorOf(c.VersionDecrypter(t.Context(), oaep.Version(2))), kms.ErrVersionNotFound},
		"a MAC key with a signer": {errorOf(c.Signer(t.Context(), makeKey(t, c, kms.AlgorithmHMACSHA256))), kms.ErrPurpose},
	} {
		if !errors.Is(test.err, test.want) {
			t.Errorf("%s: %v", doing, test.err)
		}
	}
	signer, err := c.Signer(t.Context(), ec)
	must(t, err)
	if _, err := signer.Sign(nil, make([]byte, 31), crypto.SHA256); !errors.Is(err, kms.ErrDigestLength) {
		t.Errorf("a short digest: %v", err)
	}
	edSigner, err := c.Signer(t.Context(), ed)
	must(t, err)
	if _, err := edSigner.Sign(nil, make([]byte, kms.MaxMessage+1), crypto.Hash(0)); !errors.Is(err, kms.ErrLimitExceeded) {
		t.Errorf("a message that is too long: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := signer.WithContext(ended).Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
	// The context that a signer was made with may end.
	making, cancel := context.WithCancel(t.Context())
	signer, err = c.Signer(making, ec)
	must(t, err)
	cancel()
	_, err = signer.Sign(nil, make([]byte, 32), crypto.SHA256)
	must(t, err)
}

func errorOf[T any](_ T, err error) error { return err }

// A signer stays with its version, as its public key does.
func TestSignerStaysWithItsVersion(t *testing.T) {
	c := dial(t, startServer(t).unix)
	key := makeKey(t, c, kms.AlgorithmECP384SHA384)
	first, err := c.Signer(t.Context(), key)
	must(t, err)
	_, err = c.API().RotateKey(t.Context(), kms.Principal{}, &kms.RotateKeyRequest{Name: key})
	must(t, err)
	sum := sha512.Sum384([]byte("message"))
	signature, err := first.Sign(nil, sum[:], crypto.SHA384)
	must(t, err)
	if !verifies(first.Public(), kms.AlgorithmECP384SHA384, []byte("message"), signature) {
		t.Error("after the rotation, the signature is not the first version's")
	}
	second, err := c.Signer(t.Context(), key)
	must(t, err)
	again, err := c.VersionSigner(t.Context(), key.Version(1))
	must(t, err)
	if second.Version() != key.Version(2) || again.Version() != key.Version(1) || fmt.Sprint(again.Public()) != fmt.Sprint(first.Public()) {
		t.Errorf("signers of %s and %s", second.Version(), again.Version())
	}
	_, err = c.API().RevokeKeyVersion(t.Context(), kms.Principal{}, &kms.RevokeRequest{
		Name: key.Version(1), Reason: "leaked", DataLossAccepted: true,
	})
	must(t, err)
	if _, err := first.Sign(nil, sum[:], crypto.SHA384); !errors.Is(err, kms.ErrVersionRevoked) {
		t.Errorf("a revoked version signs: %v", err)
	}
	_, err = second.Sign(nil, sum[:], crypto.SHA384)
	must(t, err)
}

func TestDecrypter(t *testing.T) {
	c := dial(t, startServer(t).unix)
	for _, a := range []kms.Algorithm{kms.AlgorithmRSA2048OAEPSHA256, kms.AlgorithmRSA2048OAEPSHA1} {
		key := makeKey(t, c, a)
		d, err := c.Decrypter(t.Context(), key)
		must(t, err)
		public, ok := d.Public().(*rsa.PublicKey)
		if !ok || d.Algorithm() != a || d.Version() != key.Version(1) {
			t.Fatalf("%s: decrypter of %s with a %T", a, d.Version(), d.Public())
		}
		for _, plaintext := range [][]byte{nil, []byte("secret"), make([]byte, 256-2*a.Hash().Size()-2)} {
			ciphertext, err := rsa.EncryptOAEP(a.Hash().New(), rand.Reader, public, plaintext, nil)
			must(t, err)
			got, err := d.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: a.Hash(), MGFHash: a.Hash()})
			must(t, err)
			if !bytes.Equal(got, plaintext) {
				t.Errorf("%s: %d bytes come back changed", a, len(plaintext))
			}
		}
		labelled, err := rsa.EncryptOAEP(a.Hash().New(), rand.Reader, public, []byte("x"), []byte("label"))
		must(t, err)
		good := &rsa.OAEPOptions{Hash: a.Hash()}
		if _, err := d.Decrypt(nil, labelled, good); !errors.Is(err, kms.ErrDecryptionFailed) {
			t.Errorf("%s: another label: %v", a, err)
		}
		if _, err := d.Decrypt(nil, labelled[1:], good); !errors.Is(err, kms.ErrMalformedCiphertext) {
			t.Errorf("%s: a short ciphertext: %v", a, err)
		}
		other := crypto.SHA1 + crypto.SHA256 - a.Hash()
		for i, opts := range []crypto.DecrypterOpts{
			nil, crypto.SHA256, &rsa.OAEPOptions{}, &rsa.OAEPOptions{Hash: other},
			&rsa.OAEPOptions{Hash: a.Hash(), MGFHash: other}, &rsa.OAEPOptions{Hash: a.Hash(), Label: []byte("label")},
		} {
			if _, err := d.Decrypt(nil, labelled, opts); !errors.Is(err, client.ErrSignerOptions) {
				t.Errorf("%s, options %d: %v", a, i, err)
			}
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := d.WithContext(ended).Decrypt(nil, labelled, good); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
	}
}
