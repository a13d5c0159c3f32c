package kmstest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"math/big"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func (s *suite) sign(r *kms.SignRequest) (*kms.SignResult, error) {
	return s.Admin.API.Sign(s.ctx, s.Admin.Principal, r)
}

func (s *suite) verify(r *kms.VerifyRequest) (*kms.VerifyResult, error) {
	return s.Admin.API.Verify(s.ctx, s.Admin.Principal, r)
}

func (s *suite) publicKey(r *kms.GetPublicKeyRequest) (*kms.PublicKey, error) {
	return s.Admin.API.GetPublicKey(s.ctx, s.Admin.Principal, r)
}

func (s *suite) mustSign(r *kms.SignRequest) *kms.SignResult {
	s.Helper()
	signed, err := s.sign(r)
	wantOK(s, err, "Sign")
	return signed
}

// wantVerdict fails the test unless Verify says so.
func (s *suite) wantVerdict(valid bool, r *kms.VerifyRequest, doing string) *kms.VerifyResult {
	s.Helper()
	verdict, err := s.verify(r)
	wantOK(s, err, "Verify of "+doing)
	if verdict.Valid != valid {
		s.Fatalf("Verify of %s: valid is %v, want %v", doing, verdict.Valid, valid)
	}
	return verdict
}

func digestOf(a kms.Algorithm, message []byte) []byte {
	h := a.Hash().New()
	h.Write(message)
	return h.Sum(nil)
}

// verifiesOutside verifies with Go's crypto, which knows nothing of the service.
func verifiesOutside(public any, a kms.Algorithm, message, der []byte) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digestOf(a, message), der)
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, der)
	case *rsa.PublicKey:
		if a.IsPSS() {
			return rsa.VerifyPSS(key, a.Hash(), digestOf(a, message), der, &rsa.PSSOptions{SaltLength: a.Hash().Size()}) == nil
		}
		return rsa.VerifyPKCS1v15(key, a.Hash(), digestOf(a, message), der) == nil
	}
	return false
}

func testSigning(t *testing.T, s *suite) {
	s.supported(kms.PurposeAsymmetricSign, func(a kms.Algorithm, name kms.KeyName) {
		encoded, err := s.publicKey(&kms.GetPublicKeyRequest{Key: name, Format: kms.PublicKeyDER})
		wantOK(t, err, "GetPublicKey")
		public, err := x509.ParsePKIXPublicKey(encoded.Key)
		wantOK(t, err, "the public key")

		for _, size := range []int{1, 100, kms.MaxMessage} {
			message := bytes.Repeat([]byte{'m'}, size)
			requests := []*kms.SignRequest{{Key: name, Message: message}, {Version: name.Version(1), Message: message, Format: kms.SignatureDER}}
			if !a.SignsMessages() {
				digest := digestOf(a, message)
				requests = append(requests, &kms.SignRequest{Key: name, Digest: digest}, &kms.SignRequest{Key: name, Digest: digest, DigestHash: a.Hash()})
			}
			for i, r := range requests {
				doing := fmt.Sprintf("%s, %d bytes, request %d", a, size, i)
				signed := s.mustSign(r)
				if signed.Version != name.Version(1) || signed.Algorithm != a || signed.Err != nil {
					t.Fatalf("%s: %+v", doing, signed)
				}
				if !verifiesOutside(public, a, message, signed.Signature) {
					t.Fatalf("%s: Go does not verify the signature", doing)
				}
				v := s.wantVerdict(true, &kms.VerifyRequest{Key: name, Message: message, Signature: signed.Signature}, doing)
				if v.Version != name.Version(1) || v.State != kms.StateEnabled || v.Algorithm != a {
					t.Fatalf("%s: Verify returned %+v", doing, v)
				}
			}
		}
		testVerification(t, s, a, name)
	})
}

// testVerification: what is not the signature is not valid, and no error either.
func testVerification(t *testing.T, s *suite, a kms.Algorithm, name kms.KeyName) {
	t.Helper()
	message := []byte("message")
	der := s.mustSign(&kms.SignRequest{Key: name, Message: message}).Signature
	raw := s.mustSign(&kms.SignRequest{Key: name, Message: message, Format: kms.SignatureRaw}).Signature
	if len(raw) != a.OutputSize() {
		t.Fatalf("%s: a raw signature of %d bytes", a, len(raw))
	}
	s.wantVerdict(true, &kms.VerifyRequest{Key: name, Message: message, Signature: raw, Format: kms.SignatureRaw}, a.String()+", raw")
	if !a.SignsMessages() {
		s.wantVerdict(true, &kms.VerifyRequest{Key: name, Digest: digestOf(a, message), DigestHash: a.Hash(), Signature: der}, a.String()+", digest")
	}
	s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: []byte("massage"), Signature: der}, a.String()+", another message")
	for _, i := range []int{0, len(der) / 2, len(der) - 1} {
		flipped := bytes.Clone(der)
		flipped[i] ^= 1
		s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: message, Signature: flipped}, fmt.Sprintf("%s, byte %d changed", a, i))
	}
	s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: message, Signature: append(bytes.Clone(der), 0)}, a.String()+", a byte more")
	s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: message, Signature: der[:len(der)-1]}, a.String()+", a byte less")
	s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: message, Signature: make([]byte, len(der))}, a.String()+", zeros")
	s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: message, Signature: make([]byte, kms.MaxSignature)}, a.String()+", the most bytes")

	var ecdsaSignature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &ecdsaSignature); err == nil && a.Hash() != 0 && a.OutputSize() < 256 { // the formats differ
		s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: message, Signature: raw}, a.String()+", raw as DER")
		s.wantVerdict(false, &kms.VerifyRequest{Key: name, Message: message, Signature: der, Format: kms.SignatureRaw}, a.String()+", DER as raw")
	}
}

// Every algorithm refuses what it cannot sign, with a typed error each.
func testSigningRefusals(t *testing.T, s *suite) {
	s.supported(kms.PurposeAsymmetricSign, func(a kms.Algorithm, name kms.KeyName) {
		size := a.Hash().Size
		if a.SignsMessages() {
			size = crypto.SHA512.Size
		}
		wrongLength, wrongHash := kms.ErrDigestLength, kms.ErrHashMismatch
		if a.SignsMessages() {
			wrongLength = kms.ErrHashMismatch // it takes no digest at all
		}
		other := crypto.SHA384
		if a.Hash() == other {
			other = crypto.SHA512
		}
		for doing, test := range map[string]struct {
			digest, message []byte
			hash            crypto.Hash
			format          kms.SignatureFormat
			want            error
			field           string
		}{
			"neither":                  {nil, nil, 0, 0, kms.ErrInvalidRequest, "digest"},
			"empty ones":               {[]byte{}, []byte{}, 0, 0, kms.ErrInvalidRequest, "digest"},
			"both":                     {make([]byte, 32), []byte("m"), 0, 0, kms.ErrInvalidRequest, "digest"},
			"a digest of 1 byte":       {make([]byte, 1), nil, 0, 0, wrongLength, ""},
			"a digest of 20 bytes":     {make([]byte, 20), nil, 0, 0, wrongLength, ""},
			"a digest that is short":   {make([]byte, size()-1), nil, 0, 0, wrongLength, ""},
			"a digest of another hash": {make([]byte, other.Size()), nil, other, 0, wrongHash, ""},
			"a digest of 65 bytes":     {make([]byte, 65), nil, 0, 0, kms.ErrLimitExceeded, "digest"},
			"a hash of a message":      {nil, []byte("m"), crypto.SHA256, 0, kms.ErrInvalidRequest, "digest_hash"},
			"a message over 64 KiB":    {nil, make([]byte, kms.MaxMessage+1), 0, 0, kms.ErrLimitExceeded, "message"},
		} {
			signing := &kms.SignRequest{Key: name, Digest: test.digest, Message: test.message, DigestHash: test.hash, Format: test.format}
			verifying := &kms.VerifyRequest{
				Key: name, Digest: test.digest, Message: test.message, DigestHash: test.hash, Format: test.format, Signature: []byte("s"),
			}
			_, signErr := s.sign(signing)
			_, verifyErr := s.verify(verifying)
			batch, err := s.Admin.API.BatchSign(s.ctx, s.Admin.Principal, &kms.BatchSignRequest{
				Parent: name.Namespace(), Key: name, Items: []kms.SignItem{{Digest: test.digest, Message: test.message, DigestHash: test.hash}},
			})
			wantOK(t, err, "BatchSign with a bad item")
			for call, err := range map[string]error{"Sign": signErr, "Verify": verifyErr, "BatchSign": batch[0].Err} {
				doing := fmt.Sprintf("%s: %s of %s", a, call, doing)
				e := wantRefusal(t, err, test.want, doing)
				if test.field != "" && (len(e.Violations) == 0 || e.Violations[0].Field != test.field) {
					t.Errorf("%s: violations %+v", doing, e.Violations)
				}
				if test.field == "" {
					wantMetadata(t, e, "algorithm", a.String())
				}
			}
		}
		_, err := s.sign(&kms.SignRequest{Key: name, Digest: make([]byte, size()), DigestHash: crypto.MD5})
		if err == nil {
			t.Errorf("%s signs a digest of MD5", a)
		}
		_, err = s.verify(&kms.VerifyRequest{Key: name, Message: []byte("m")})
		wantViolation(t, err, "signature", "Verify without a signature")
		_, err = s.verify(&kms.VerifyRequest{Key: name, Message: []byte("m"), Signature: make([]byte, kms.MaxSignature+1)})
		wantError(t, err, kms.ErrLimitExceeded, "Verify of a signature that is too long")
	})
}

func testSigningNames(t *testing.T, s *suite) {
	name := s.mustCreateAlgorithm("sign", kms.AlgorithmECP256SHA256)
	_, err := s.Admin.API.CreateNamespace(s.ctx, s.Admin.Principal, s.namespace("other"))
	wantOK(t, err, "CreateNamespace")
	m := []byte("m")
	for doing, test := range map[string]struct {
		key     kms.KeyName
		version kms.VersionName
		want    error
		field   string
	}{
		"no name":           {want: kms.ErrInvalidRequest, field: "key"},
		"two names":         {key: name, version: name.Version(1), want: kms.ErrInvalidRequest, field: "key_version"},
		"an absent key":     {key: s.key("absent"), want: kms.ErrKeyNotFound},
		"an absent version": {version: name.Version(2), want: kms.ErrVersionNotFound},
	} {
		_, signErr := s.sign(&kms.SignRequest{Key: test.key, Version: test.version, Message: m})
		_, verifyErr := s.verify(&kms.VerifyRequest{Key: test.key, Version: test.version, Message: m, Signature: m})
		_, publicErr := s.publicKey(&kms.GetPublicKeyRequest{Key: test.key, Version: test.version})
		_, macErr := s.Admin.API.GenerateMac(s.ctx, s.Admin.Principal, &kms.GenerateMacRequest{Key: test.key, Version: test.version, Message: m})
		_, verifyMacErr := s.Admin.API.VerifyMac(s.ctx, s.Admin.Principal, &kms.VerifyMacRequest{Key: test.key, Version: test.version, Message: m, Mac: m})
		_, decryptErr := s.Admin.API.AsymmetricDecrypt(s.ctx, s.Admin.Principal, &kms.AsymmetricDecryptRequest{Key: test.key, Version: test.version, Ciphertext: m})
		for call, err := range map[string]error{
			"Sign": signErr, "Verify": verifyErr, "GetPublicKey": publicErr, "GenerateMac": macErr, "VerifyMac": verifyMacErr, "AsymmetricDecrypt": decryptErr,
		} {
			if name.Version(2) == test.version && (call == "GenerateMac" || call == "VerifyMac" || call == "AsymmetricDecrypt") {
				wantError(t, err, kms.ErrPurpose, call+" with "+doing) // the purpose is looked at first
				continue
			}
			if test.field != "" {
				wantViolation(t, err, test.field, call+" with "+doing)
			} else {
				wantError(t, err, test.want, call+" with "+doing)
			}
		}
	}
}

func testPublicKeys(t *testing.T, s *suite) {
	s.supported(kms.PurposeAsymmetricSign, func(a kms.Algorithm, name kms.KeyName) {
		formats := make(map[kms.PublicKeyFormat]*kms.PublicKey)
		for _, format := range []kms.PublicKeyFormat{0, kms.PublicKeyPEM, kms.PublicKeyDER, kms.PublicKeyJWK} {
			got, err := s.publicKey(&kms.GetPublicKeyRequest{Key: name, Format: format})
			wantOK(t, err, "GetPublicKey")
			if got.Version != name.Version(1) || got.State != kms.StateEnabled || got.Algorithm != a ||
				got.CRC32C != crc32.Checksum(got.Key, crc32.MakeTable(crc32.Castagnoli)) {
				t.Fatalf("%s: %+v", a, got)
			}
			if format == 0 && got.Format != kms.PublicKeyPEM {
				t.Fatalf("%s: the default format is %s", a, got.Format)
			}
			formats[format] = got
		}
		block, rest := pem.Decode(formats[kms.PublicKeyPEM].Key)
		if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 || !bytes.Equal(block.Bytes, formats[kms.PublicKeyDER].Key) ||
			!bytes.Equal(formats[0].Key, formats[kms.PublicKeyPEM].Key) {
			t.Fatalf("%s: PEM and DER differ:\n%s", a, formats[kms.PublicKeyPEM].Key)
		}
		var web map[string]string
		wantOK(t, json.Unmarshal(formats[kms.PublicKeyJWK].Key, &web), "the JWK")
		if web["alg"] != a.JWA() || web["use"] != "sig" || web["kid"] == "" || web["kty"] == "" {
			t.Fatalf("%s: JWK %v", a, web)
		}
		_, err := s.publicKey(&kms.GetPublicKeyRequest{Key: name, Format: 77})
		wantViolation(t, err, "format", "GetPublicKey in an unknown format")
		_, err = s.sign(&kms.SignRequest{Key: name, Message: []byte("m"), Format: 77})
		wantViolation(t, err, "signature_format", "Sign in an unknown format")
	})
}
