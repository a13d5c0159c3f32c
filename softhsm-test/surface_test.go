package softhsmtest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// surface is a service over TLS on a SoftHSM2 token, as an application sees it with the Go
// client, and the openssl command line beside it.
type surface struct {
	*openssl
	*client.Client
}

func newSurface(t *testing.T) *surface {
	t.Helper()
	o := newOpenSSL(t)
	return &surface{openssl: o, Client: serveTLS(t, o.token)("admin")}
}

func (s *surface) key(id string) kms.KeyName {
	s.Helper()
	name, err := kms.ParseKeyName("namespaces/default/keys/" + id)
	s.must(err)
	return name
}

// create makes a key of an algorithm, which is named for it.
func (s *surface) create(a kms.Algorithm) kms.KeyName {
	s.Helper()
	name := s.key(strings.ToLower(a.String()))
	_, err := s.API().CreateKey(s.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: name, Algorithm: a})
	s.must(err)
	return name
}

func (s *surface) signer(a kms.Algorithm) *client.Signer {
	s.Helper()
	signer, err := s.Signer(s.Context(), s.create(a))
	s.must(err)
	return signer
}

// writePublicKey writes the public key of a key as GetPublicKey returns it.
func (s *surface) writePublicKey(name kms.KeyName, file string) crypto.PublicKey {
	s.Helper()
	got, err := s.API().GetPublicKey(s.Context(), kms.Principal{}, &kms.GetPublicKeyRequest{Key: name})
	s.must(err)
	s.write(file, got.Key)
	block, rest := pem.Decode(got.Key)
	if block == nil || len(rest) != 0 {
		s.Fatalf("GetPublicKey returned %q", got.Key)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	s.must(err)
	return public
}

func signingAlgorithms() (list []kms.Algorithm) {
	for _, a := range kms.Algorithms() {
		if a.Purpose() == kms.PurposeAsymmetricSign {
			list = append(list, a)
		}
	}
	return list
}

// inputOf is what an algorithm signs of a message: its digest, or the message.
func inputOf(a kms.Algorithm, message []byte) []byte {
	if a.SignsMessages() {
		return message
	}
	h := a.Hash().New()
	h.Write(message)
	return h.Sum(nil)
}

// goVerifies verifies a signature in DER with Go's crypto and nothing of this project.
func goVerifies(a kms.Algorithm, public crypto.PublicKey, message, signature []byte) bool {
	input := inputOf(a, message)
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, input, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, input, signature)
	case *rsa.PublicKey:
		if strings.HasPrefix(a.String(), "RSA_SIGN_PSS_") {
			return rsa.VerifyPSS(key, a.Hash(), input, signature, &rsa.PSSOptions{SaltLength: a.Hash().Size()}) == nil
		}
		return rsa.VerifyPKCS1v15(key, a.Hash(), input, signature) == nil
	default:
		return false
	}
}

// verification are the arguments by which openssl verifies sig of message under key.pem.
func verification(a kms.Algorithm) []string {
	if a.SignsMessages() {
		return []string{"pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message", "-sigfile", "sig"}
	}
	arguments := []string{"dgst", fmt.Sprintf("-sha%d", 8*a.Hash().Size()), "-verify", "key.pem", "-signature", "sig"}
	if a.IsPSS() {
		arguments = append(arguments, "-sigopt", "rsa_padding_mode:pss", "-sigopt", fmt.Sprintf("rsa_pss_saltlen:%d", a.Hash().Size()))
	}
	return append(arguments, "message")
}

// derOf makes DER of r || s, with package asn1.
func (s *surface) derOf(raw []byte) []byte {
	s.Helper()
	half := len(raw) / 2
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
	s.must(err)
	return der
}

// Signatures of every algorithm, however they are asked for, are verified by the openssl
// command line, by Go's crypto, and by the service.
func TestSignaturesOfTheService(t *testing.T) {
	t.Parallel()
	s := newSurface(t)
	message := []byte("signed over TLS in SoftHSM2")
	s.write("message", message)
	verified := 0
	for _, a := range signingAlgorithms() {
		name := s.create(a)
		public := s.writePublicKey(name, "key.pem")
		for way, signature := range s.signatures(a, name, message) {
			s.write("sig", signature)
			s.run(verification(a)...)
			if !goVerifies(a, public, message, signature) {
				t.Errorf("%s, %s: Go refuses the signature", a, way)
			}
			for text, want := range map[string]bool{string(message): true, "another": false} {
				r, err := s.API().Verify(t.Context(), kms.Principal{}, &kms.VerifyRequest{Key: name, Message: []byte(text), Signature: signature})
				s.must(err)
				if r.Valid != want {
					t.Errorf("%s, %s: the service says %t of %q", a, way, r.Valid, text)
				}
			}
			verified++
		}
	}
	if want := 4*5 + 18*5 - 2; verified != want { // Ed25519 takes no digest, alone or in a batch
		t.Errorf("%d signatures, want %d", verified, want)
	}
}

// signatures are those of a message in every way that the service has, in DER.
func (s *surface) signatures(a kms.Algorithm, name kms.KeyName, message []byte) map[string][]byte {
	s.Helper()
	made := make(map[string][]byte)
	sign := func(way string, r kms.SignRequest) {
		s.Helper()
		r.Key = name
		answer, err := s.API().Sign(s.Context(), kms.Principal{}, &r)
		s.must(err)
		if made[way] = answer.Signature; r.Format == kms.SignatureRaw && a.KeySpec(0).Has(hsm.ECDSA) {
			made[way] = s.derOf(answer.Signature)
		}
	}
	sign("message", kms.SignRequest{Message: message})
	sign("raw", kms.SignRequest{Message: message, Format: kms.SignatureRaw})
	items := []kms.SignItem{{Message: message}}
	if !a.SignsMessages() {
		sign("digest", kms.SignRequest{Digest: inputOf(a, message), DigestHash: a.Hash()})
		items = append(items, kms.SignItem{Digest: inputOf(a, message)})
	}
	results, err := s.API().BatchSign(s.Context(), kms.Principal{}, &kms.BatchSignRequest{Parent: name.Namespace(), Key: name, Items: items})
	s.must(err)
	for i, r := range results {
		s.must(r.Err)
		made[fmt.Sprintf("item %d", i)] = r.Signature
	}
	return made
}

// What OpenSSL encrypts with the public key of the service is decrypted in the token; a
// changed ciphertext is not. SoftHSM2 has RSA-OAEP with SHA-1 only: keys with SHA-256 are
// refused when they are made.
func TestServiceDecryptsWhatOpenSSLEncrypts(t *testing.T) {
	t.Parallel()
	s := newSurface(t)
	s.write("plaintext", []byte("encrypted by OpenSSL"))
	for _, a := range []kms.Algorithm{
		kms.AlgorithmRSA2048OAEPSHA1, kms.AlgorithmRSA3072OAEPSHA1, kms.AlgorithmRSA4096OAEPSHA1,
	} {
		name := s.create(a)
		s.writePublicKey(name, "key.pem")
		s.run("pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "plaintext", "-out", "ciphertext",
			"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1")
		decrypter, err := s.Decrypter(t.Context(), name)
		s.must(err)
		ciphertext := s.read("ciphertext")
		got, err := decrypter.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA1})
		if err != nil || string(got) != "encrypted by OpenSSL" {
			t.Errorf("%s: %q %v", a, got, err)
		}
		ciphertext[len(ciphertext)-1] ^= 1
		if got, err := decrypter.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: crypto.SHA1}); !errors.Is(err, kms.ErrDecryptionFailed) {
			t.Errorf("%s: a changed ciphertext: %q %v", a, got, err)
		}
	}
	for _, a := range []kms.Algorithm{
		kms.AlgorithmRSA2048OAEPSHA256, kms.AlgorithmRSA3072OAEPSHA256, kms.AlgorithmRSA4096OAEPSHA256,
	} {
		_, err := s.API().CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: s.key("sha256"), Algorithm: a})
		if !errors.Is(err, kms.ErrUnsupported) || !strings.Contains(err.Error(), a.String()) {
			t.Errorf("%s: %v", a, err)
		}
	}
}
