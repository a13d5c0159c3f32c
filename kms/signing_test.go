package kms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"math/big"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// rsaKeys are made once for all tests: making them takes seconds.
var rsaKeys hsmtest.RSAKeys

// newKeyWorld starts a service on a token that has every algorithm.
func newKeyWorld(t testing.TB, change func(*kms.Config)) *world {
	t.Helper()
	return newWorld(t, hsmtest.MemoryConfig{Label: "test", RSAKeys: &rsaKeys}, change)
}

func (w *world) createKey(id string, a kms.Algorithm) kms.KeyName {
	w.t.Helper()
	name := keyName(w.t, id)
	made, err := w.service.CreateKey(w.t.Context(), admin, &kms.CreateKeyRequest{Name: name, Algorithm: a})
	if err != nil {
		w.t.Fatalf("CreateKey %s: %v", a, err)
	}
	if made.Algorithm != a || made.Purpose != a.Purpose() {
		w.t.Fatalf("CreateKey made %s %s", made.Purpose, made.Algorithm)
	}
	return name
}

func (w *world) rotate(name kms.KeyName) kms.VersionName {
	w.t.Helper()
	r, err := w.service.RotateKey(w.t.Context(), admin, &kms.RotateKeyRequest{Name: name})
	if err != nil {
		w.t.Fatalf("RotateKey: %v", err)
	}
	return r.Version.Name
}

func (w *world) publicKey(name kms.VersionName) crypto.PublicKey {
	w.t.Helper()
	r, err := w.service.GetPublicKey(w.t.Context(), admin, &kms.GetPublicKeyRequest{Version: name, Format: kms.PublicKeyDER})
	if err != nil {
		w.t.Fatalf("GetPublicKey: %v", err)
	}
	public, err := x509.ParsePKIXPublicKey(r.Key)
	if err != nil {
		w.t.Fatalf("GetPublicKey: %v", err)
	}
	return public
}

func algorithmsOf(p kms.Purpose) (list []kms.Algorithm) {
	for _, a := range kms.Algorithms() {
		if a.Purpose() == p {
			list = append(list, a)
		}
	}
	return list
}

func digestOf(a kms.Algorithm, message []byte) []byte {
	if a.SignsMessages() {
		return nil
	}
	h := a.Hash().New()
	h.Write(message)
	return h.Sum(nil)
}

// verifyWithGo verifies a DER signature without the code under test.
func verifyWithGo(public crypto.PublicKey, a kms.Algorithm, message, signature []byte) error {
	digest := digestOf(a, message)
	ok := false
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		ok = ecdsa.VerifyASN1(key, digest, signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(key, message, signature)
	case *rsa.PublicKey:
		if a.IsPSS() {
			return rsa.VerifyPSS(key, a.Hash(), digest, signature, &rsa.PSSOptions{SaltLength: a.Hash().Size()})
		}
		return rsa.VerifyPKCS1v15(key, a.Hash(), digest, signature)
	}
	if !ok {
		return fmt.Errorf("%s does not verify with %T", a, public)
	}
	return nil
}

// Every algorithm signs what its key's public key verifies: from a digest and from a
// message, alone and in a batch, in both formats.
func TestSignaturesOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	for _, a := range algorithmsOf(kms.PurposeAsymmetricSign) {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			w := newKeyWorld(t, nil)
			name := w.createKey("k", a)
			version := name.Version(1)
			public := w.publicKey(version)
			message := []byte("to be signed")
			digest := digestOf(a, message)
			requests := []kms.SignRequest{{Key: name, Message: message}, {Version: version, Message: message}}
			items := []kms.SignItem{{Message: message}, {Key: name, Message: message}, {Version: version, Message: message}}
			if digest != nil {
				requests = append(requests, kms.SignRequest{Key: name, Digest: digest},
					kms.SignRequest{Version: version, Digest: digest, DigestHash: a.Hash()})
				items = append(items, kms.SignItem{Digest: digest}, kms.SignItem{Digest: digest, DigestHash: a.Hash()})
			}
			for i := range requests {
				r, err := w.service.Sign(t.Context(), admin, &requests[i])
				if err != nil || r.Version != version || r.Algorithm != a || r.Err != nil {
					t.Fatalf("Sign %d: %+v, %v", i, r, err)
				}
				if err := verifyWithGo(public, a, message, r.Signature); err != nil {
					t.Errorf("Sign %d: %v", i, err)
				}
				w.wantVerdict(true, &kms.VerifyRequest{Key: name, Message: message, Signature: r.Signature})
				w.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: []byte("another"), Signature: r.Signature})
			}
			results, err := w.service.BatchSign(t.Context(), admin, &kms.BatchSignRequest{
				Parent: name.Namespace(), Key: name, Items: items, Format: kms.SignatureRaw,
			})
			if err != nil || len(results) != len(items) {
				t.Fatalf("BatchSign: %d results, %v", len(results), err)
			}
			for i, r := range results {
				if r.Err != nil || r.Version != version || r.Algorithm != a || len(r.Signature) != a.OutputSize() {
					t.Fatalf("BatchSign item %d: %+v", i, r)
				}
				if err := verifyWithGo(public, a, message, derOf(t, public, r.Signature)); err != nil {
					t.Errorf("BatchSign item %d: %v", i, err)
				}
				w.wantVerdict(true, &kms.VerifyRequest{
					Version: version, Message: message, Signature: r.Signature, Format: kms.SignatureRaw,
				})
				if a.KeySpec(0).Has(hsm.ECDSA) {
					w.wantVerdict(false, &kms.VerifyRequest{Version: version, Message: message, Signature: r.Signature})
				}
			}
			w.wantUsage(version, kms.ActionSign, uint64(len(requests)))
			w.wantUsage(version, kms.ActionBatchSign, uint64(len(items)))
		})
	}
}

// derOf writes a raw signature as X.509 has it.
func derOf(t testing.TB, public crypto.PublicKey, raw []byte) []byte {
	t.Helper()
	if _, ok := public.(*ecdsa.PublicKey); !ok {
		return raw
	}
	half := len(raw) / 2
	integer := func(b []byte) []byte {
		b = new(big.Int).SetBytes(b).Bytes()
		if b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return append([]byte{2, byte(len(b))}, b...)
	}
	body := append(integer(raw[:half]), integer(raw[half:])...)
	if len(body) >= 0x80 {
		return append([]byte{0x30, 0x81, byte(len(body))}, body...)
	}
	return append([]byte{0x30, byte(len(body))}, body...)
}

func (w *world) wantVerdict(want bool, r *kms.VerifyRequest) {
	w.t.Helper()
	got, err := w.service.Verify(w.t.Context(), admin, r)
	if err != nil {
		w.t.Fatalf("Verify: %v", err)
	}
	if got.Valid != want || got.State != kms.StateEnabled {
		w.t.Errorf("Verify: %+v, want %v", got, want)
	}
}

func (w *world) wantUsage(name kms.VersionName, a kms.Action, want uint64) {
	w.t.Helper()
	v, err := w.service.GetKeyVersion(w.t.Context(), admin, name)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, u := range v.Usage {
		if u.Action == a && u.Count == want {
			return
		}
	}
	w.t.Errorf("the usage of %s is %v, want %d times %s", name, v.Usage, want, a)
}

// Public keys come in each format with a checksum, and from the row: no token call.
func TestPublicKeysOfEveryAlgorithm(t *testing.T) {
	t.Parallel()
	all := append(algorithmsOf(kms.PurposeAsymmetricSign), algorithmsOf(kms.PurposeAsymmetricDecrypt)...)
	for _, a := range all {
		t.Run(a.String(), func(t *testing.T) {
			t.Parallel()
			w := newKeyWorld(t, nil)
			name := w.createKey("k", a)
			want, err := w.faults.PublicKey(t.Context(), w.uid(name.Version(1)))
			if err != nil {
				t.Fatal(err)
			}
			asked := w.faults.Count(hsmtest.MethodPublicKey)
			for _, format := range []kms.PublicKeyFormat{0, kms.PublicKeyPEM, kms.PublicKeyDER, kms.PublicKeyJWK} {
				r, err := w.service.GetPublicKey(t.Context(), admin, &kms.GetPublicKeyRequest{Key: name, Format: format})
				if err != nil {
					t.Fatal(err)
				}
				if r.Version != name.Version(1) || r.Algorithm != a || r.State != kms.StateEnabled ||
					r.CRC32C != crc32.Checksum(r.Key, crc32.MakeTable(crc32.Castagnoli)) {
					t.Errorf("%s: %+v", format, r)
				}
				if got := derOfKey(t, r); !bytes.Equal(got, want) {
					t.Errorf("%s: the key is\n%x, want\n%x", r.Format, got, want)
				}
			}
			if n := w.faults.Count(hsmtest.MethodPublicKey); n != asked {
				t.Errorf("the token was asked %d times", n-asked)
			}
		})
	}
}

// derOfKey reads a public key in any of the formats.
func derOfKey(t testing.TB, r *kms.PublicKey) []byte {
	t.Helper()
	switch r.Format {
	case kms.PublicKeyPEM:
		block, rest := pem.Decode(r.Key)
		if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
			t.Fatalf("no PEM of a public key: %s", r.Key)
		}
		return block.Bytes
	case kms.PublicKeyDER:
		return r.Key
	}
	var jwk struct{ Kty, Crv, X, Y, N, E, Alg, Use, Kid string }
	if err := json.Unmarshal(r.Key, &jwk); err != nil {
		t.Fatal(err)
	}
	if jwk.Alg != r.Algorithm.JWA() || jwk.Kid == "" || (jwk.Use == "sig") != (r.Algorithm.Purpose() == kms.PurposeAsymmetricSign) {
		t.Errorf("JWK: %s", r.Key)
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var public any
	switch jwk.Kty {
	case "OKP":
		public = ed25519.PublicKey(decode(jwk.X))
	case "EC":
		point := append(append([]byte{4}, decode(jwk.X)...), decode(jwk.Y)...)
		curve := curveNamed(t, jwk.Crv)
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			t.Fatal(err)
		}
		public = key
	case "RSA":
		public = &rsa.PublicKey{N: new(big.Int).SetBytes(decode(jwk.N)), E: int(new(big.Int).SetBytes(decode(jwk.E)).Int64())}
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func curveNamed(t testing.TB, name string) elliptic.Curve {
	t.Helper()
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		if curve.Params().Name == name {
			return curve
		}
	}
	t.Fatalf("no curve %q", name)
	return nil
}
