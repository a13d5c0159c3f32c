package softhsmtest_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// openssl is a directory for the openssl command line, and a token beside it.
type openssl struct {
	*testing.T
	program, dir string
	token        *pkcs11hsm.Token
}

func newOpenSSL(t *testing.T) *openssl {
	t.Helper()
	program := softhsmtest.RequireFile(t, "the openssl command line", "/usr/bin/openssl", "/opt/homebrew/bin/openssl", "/usr/local/bin/openssl")
	return &openssl{T: t, program: program, dir: t.TempDir(), token: softhsmtest.New(t).Open(t)}
}

// run runs openssl in the directory and returns what it prints.
func (o *openssl) run(arguments ...string) []byte {
	o.Helper()
	return o.runProgram(o.program, arguments...)
}

// runProgram is run for another program.
func (o *openssl) runProgram(program string, arguments ...string) []byte {
	o.Helper()
	cmd := exec.CommandContext(o.Context(), program, arguments...)
	cmd.Dir = o.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		o.Fatalf("%s %s: %v\n%s%s", program, strings.Join(arguments, " "), err, out, stderr.Bytes())
	}
	return out
}

func (o *openssl) write(name string, data []byte) {
	o.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), data, 0o600); err != nil {
		o.Fatal(err)
	}
}

func (o *openssl) read(name string) []byte {
	o.Helper()
	data, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.Fatal(err)
	}
	return data
}

func (o *openssl) must(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

// generate makes a key and returns its UID.
func (o *openssl) generate(spec hsm.KeySpec) (uid hsm.UID) {
	o.Helper()
	rand.Read(uid[:])
	_, err := o.token.GenerateKey(o.Context(), uid, "openssl", spec)
	o.must(err)
	return uid
}

// writePublicKey writes the public key of a pair as PEM.
func (o *openssl) writePublicKey(uid hsm.UID, name string) {
	o.Helper()
	der, err := o.token.PublicKey(o.Context(), uid)
	o.must(err)
	o.write(name, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// signed signs a message, hashed where the scheme signs digests, with the signature as
// OpenSSL wants it.
func (o *openssl) signed(uid hsm.UID, spec hsm.KeySpec, scheme hsm.Scheme, message []byte) []byte {
	o.Helper()
	hash := scheme.Hash()
	if scheme == hsm.ECDSA {
		hash = spec.Hash()
	}
	input := message
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		input = h.Sum(nil)
	}
	signature, err := o.token.Sign(o.Context(), uid, scheme, input)
	o.must(err)
	if scheme != hsm.ECDSA {
		return signature
	}
	half := len(signature) / 2
	der, err := asn1.Marshal(struct{ R, S *big.Int }{
		new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:]),
	})
	o.must(err)
	return der
}

// verify are the arguments by which openssl verifies sig of message under key.pem.
func verify(spec hsm.KeySpec, scheme hsm.Scheme) []string {
	if scheme == hsm.PureEd25519 {
		return []string{"pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "message", "-sigfile", "sig"}
	}
	hash := scheme.Hash()
	if scheme == hsm.ECDSA {
		hash = spec.Hash()
	}
	arguments := []string{"dgst", fmt.Sprintf("-sha%d", 8*hash.Size()), "-verify", "key.pem", "-signature", "sig"}
	if scheme.IsPSS() {
		arguments = append(arguments, "-sigopt", "rsa_padding_mode:pss", "-sigopt", fmt.Sprintf("rsa_pss_saltlen:%d", hash.Size()))
	}
	return append(arguments, "message")
}

// TestOpenSSLVerifies: OpenSSL verifies every kind of signature that the token makes.
func TestOpenSSLVerifies(t *testing.T) {
	o := newOpenSSL(t)
	message := []byte("signed in SoftHSM2, verified by OpenSSL")
	o.write("message", message)
	verified := 0
	for _, spec := range o.token.Info().Specs {
		if spec.Usage() != hsm.UsageSign {
			continue
		}
		uid := o.generate(spec)
		o.writePublicKey(uid, "key.pem")
		for _, scheme := range spec.Schemes() {
			o.write("sig", o.signed(uid, spec, scheme, message))
			o.run(verify(spec, scheme)...)
			verified++
		}
	}
	if verified != 3+1+3*6 {
		t.Errorf("%d combinations of key and scheme", verified)
	}
}

// TestOpenSSLEncrypts: the token decrypts what OpenSSL encrypted.
func TestOpenSSLEncrypts(t *testing.T) {
	o := newOpenSSL(t)
	uid := o.generate(hsm.RSA2048Decrypt)
	o.writePublicKey(uid, "key.pem")
	o.write("plaintext", []byte("encrypted by OpenSSL"))
	o.run("pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "plaintext", "-out", "ciphertext",
		"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1")
	got, err := o.token.DecryptOAEP(t.Context(), uid, crypto.SHA1, o.read("ciphertext"), nil)
	if err != nil || string(got) != "encrypted by OpenSSL" {
		t.Fatalf("%q %v", got, err)
	}
}

// TestOpenSSLMAC: OpenSSL computes the same HMAC under a known key.
func TestOpenSSLMAC(t *testing.T) {
	o := newOpenSSL(t)
	o.write("message", []byte("message"))
	for _, spec := range []hsm.KeySpec{hsm.HMACSHA256, hsm.HMACSHA384, hsm.HMACSHA512} {
		uid, key := hsm.UID{byte(spec)}, make([]byte, spec.Size())
		rand.Read(key)
		o.must(o.token.ImportSessionKey(t.Context(), uid, spec, key))
		tag, err := o.token.MAC(t.Context(), uid, []byte("message"))
		o.must(err)
		want := o.run("dgst", fmt.Sprintf("-sha%d", 8*spec.Hash().Size()), "-mac", "HMAC", "-macopt", fmt.Sprintf("hexkey:%x", key), "-binary", "message")
		if !bytes.Equal(tag, want) {
			t.Errorf("%s: %x, OpenSSL says %x", spec, tag, want)
		}
	}
}

// TestOpenSSLImport: keys that OpenSSL made and wrapped come in, and sign as OpenSSL's own
// public keys verify; what OpenSSL encrypts under an imported key, the token decrypts.
func TestOpenSSLImport(t *testing.T) {
	o := newOpenSSL(t)
	o.write("message", []byte("message"))
	by := o.generate(hsm.RSA3072Import)
	o.writePublicKey(by, "by.pem")
	for spec, algorithm := range map[hsm.KeySpec][]string{
		hsm.ECDSAP256:      {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		hsm.ECDSAP384:      {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
		hsm.ECDSAP521:      {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
		hsm.RSA2048Sign:    {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		hsm.RSA2048Decrypt: {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	} {
		o.run(append([]string{"genpkey", "-out", "private.pem"}, algorithm...)...)
		o.run("pkcs8", "-topk8", "-nocrypt", "-in", "private.pem", "-outform", "DER", "-out", "private.der")
		o.run("pkey", "-in", "private.pem", "-pubout", "-out", "key.pem")
		uid := o.importWrapped(by, spec)
		if spec.Usage() == hsm.UsageDecrypt {
			o.write("plaintext", []byte("plaintext"))
			o.run("pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "plaintext", "-out", "ciphertext",
				"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1")
			got, err := o.token.DecryptOAEP(t.Context(), uid, crypto.SHA1, o.read("ciphertext"), nil)
			if err != nil || string(got) != "plaintext" {
				t.Errorf("%s: %q %v", spec, got, err)
			}
			continue
		}
		for _, scheme := range spec.Schemes() {
			o.write("sig", o.signed(uid, spec, scheme, []byte("message")))
			o.run(verify(spec, scheme)...)
		}
		der, err := o.token.PublicKey(t.Context(), uid)
		o.must(err)
		block, _ := pem.Decode(o.read("key.pem"))
		if block == nil || !bytes.Equal(block.Bytes, der) {
			t.Errorf("%s: another public key", spec)
		}
		if _, err := x509.ParsePKIXPublicKey(der); err != nil {
			t.Error(err)
		}
	}
}

// importWrapped has OpenSSL wrap private.der, and brings it in.
func (o *openssl) importWrapped(by hsm.UID, spec hsm.KeySpec) (uid hsm.UID) {
	o.Helper()
	kek := make([]byte, 32)
	rand.Read(kek)
	rand.Read(uid[:])
	o.write("kek", kek)
	o.run("pkeyutl", "-encrypt", "-pubin", "-inkey", "by.pem", "-in", "kek", "-out", "kek.wrapped",
		"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1")
	// CKM_AES_KEY_WRAP_PAD, RFC 5649, is id-aes256-wrap-pad; the IV is the RFC's constant.
	o.run("enc", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(kek), "-iv", "A65959A6", "-in", "private.der", "-out", "wrapped")
	object, err := o.token.UnwrapKey(o.Context(), uid, "openssl", spec,
		hsm.Wrapped{By: by, Hash: crypto.SHA1, Key: o.read("kek.wrapped"), Value: o.read("wrapped")})
	o.must(err)
	if object.Local || object.Attributes.Local != hsm.ReportedFalse {
		o.Errorf("%s is not marked as imported: %+v", spec, object)
	}
	return uid
}

// The hashes that Scheme.Hash names are linked in.
var _, _ = sha256.Size, sha512.Size
