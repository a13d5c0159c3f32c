package softhsmtest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/kmstest"
)

// importer brings keys of OpenSSL's into a service over TLS, on a SoftHSM2 token.
type importer struct {
	*openssl
	kmstest.Caller
	job *kms.ImportJob
}

func newImporter(t *testing.T) *importer {
	t.Helper()
	o := newOpenSSL(t)
	i := &importer{openssl: o, Caller: overTheWire(t, o.token).Admin}
	name, err := kms.NewImportJobName(i.key("x").Namespace(), "laptop")
	o.must(err)
	i.job, err = i.API.CreateImportJob(t.Context(), i.Principal, &kms.CreateImportJobRequest{Name: name, TTL: time.Hour})
	o.must(err)
	// What the token has: see docs/pkcs11-modules.md.
	if i.job.Method != kms.ImportRSA3072SHA1 {
		t.Fatalf("SoftHSM2 imports by %s", i.job.Method)
	}
	o.write("job.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: i.job.PublicKey}))
	return i
}

func (i *importer) key(id string) kms.KeyName {
	i.Helper()
	namespace, err := kms.NewNamespaceName(kms.DefaultNamespace)
	i.must(err)
	name, err := kms.NewKeyName(namespace, id)
	i.must(err)
	return name
}

// wrapped has OpenSSL alone wrap a file for the job whose public key job.pem is, as docs/import.md describes.
func (o *openssl) wrapped(file string) []byte {
	o.Helper()
	kek := make([]byte, 32)
	rand.Read(kek)
	o.write("kek", kek)
	o.run("pkeyutl", "-encrypt", "-pubin", "-inkey", "job.pem", "-in", "kek", "-out", "kek.wrapped",
		"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1")
	o.run("enc", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(kek), "-iv", "A65959A6", "-in", file, "-out", "key.wrapped")
	return append(o.read("kek.wrapped"), o.read("key.wrapped")...)
}

// imports makes a key of the algorithm whose first version is what a file holds.
func (i *importer) imports(id string, a kms.Algorithm, file string) *kms.VersionInfo {
	i.Helper()
	r, err := i.API.ImportKeyVersion(i.Context(), i.Principal, &kms.ImportKeyVersionRequest{
		Key: i.key(id), New: &kms.NewKey{Algorithm: a}, Job: i.job.Name, WrappedKey: i.wrapped(file),
	})
	i.must(err)
	return r.Version
}

// pair has OpenSSL make a key pair: private.pem, private.der (PKCS#8) and key.pem.
func (o *openssl) pair(options ...string) {
	o.Helper()
	o.run(append([]string{"genpkey", "-out", "private.pem"}, options...)...)
	o.run("pkcs8", "-topk8", "-nocrypt", "-in", "private.pem", "-outform", "DER", "-out", "private.der")
	o.run("pkey", "-in", "private.pem", "-pubout", "-out", "key.pem")
}

// Keys that OpenSSL made sign here as OpenSSL's own public keys verify, and the reverse.
func TestImportedKeysSignAsOpenSSL(t *testing.T) {
	t.Parallel()
	i := newImporter(t)
	i.write("message", []byte("message"))
	for _, test := range []struct {
		algorithm kms.Algorithm
		options   []string
	}{
		{kms.AlgorithmECP256SHA256, []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}},
		{kms.AlgorithmECP384SHA384, []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"}},
		{kms.AlgorithmECP521SHA512, []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"}},
		{kms.AlgorithmRSA2048PKCS1SHA256, []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"}},
		{kms.AlgorithmRSA3072PSSSHA384, []string{"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"}},
	} {
		i.pair(test.options...)
		v := i.imports(strings.ToLower(test.algorithm.String()), test.algorithm, "private.der")
		signed, err := i.API.Sign(t.Context(), i.Principal, &kms.SignRequest{Version: v.Name, Message: []byte("message")})
		i.must(err)
		i.write("sig", signed.Signature)
		hash := fmt.Sprintf("-sha%d", 8*test.algorithm.Hash().Size())
		var padding []string
		if test.algorithm.IsPSS() {
			padding = []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", fmt.Sprintf("rsa_pss_saltlen:%d", test.algorithm.Hash().Size())}
		}
		i.run(slices.Concat([]string{"dgst", hash, "-verify", "key.pem", "-signature", "sig"}, padding, []string{"message"})...)

		i.run(slices.Concat([]string{"dgst", hash, "-sign", "private.pem", "-out", "sig"}, padding, []string{"message"})...)
		verified, err := i.API.Verify(t.Context(), i.Principal, &kms.VerifyRequest{
			Version: v.Name, Message: []byte("message"), Signature: i.read("sig"),
		})
		i.must(err)
		if !verified.Valid {
			t.Errorf("%s: OpenSSL's signature is not valid here", test.algorithm)
		}
	}
}

// What OpenSSL encrypted decrypts here with the key that OpenSSL made, and what was
// encrypted with the public key that the service shows, decrypts by OpenSSL.
func TestImportedKeyDecryptsAsOpenSSL(t *testing.T) {
	t.Parallel()
	i := newImporter(t)
	i.pair("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	v := i.imports("inbox", kms.AlgorithmRSA2048OAEPSHA1, "private.der")
	oaep := []string{"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1"}
	i.write("plaintext", []byte("encrypted by OpenSSL"))
	i.run(append([]string{"pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "plaintext", "-out", "ciphertext"}, oaep...)...)
	r, err := i.API.AsymmetricDecrypt(t.Context(), i.Principal, &kms.AsymmetricDecryptRequest{Version: v.Name, Ciphertext: i.read("ciphertext")})
	i.must(err)
	if string(r.Plaintext) != "encrypted by OpenSSL" {
		t.Fatalf("decrypted %q", r.Plaintext)
	}

	public, err := i.API.GetPublicKey(t.Context(), i.Principal, &kms.GetPublicKeyRequest{Version: v.Name, Format: kms.PublicKeyDER})
	i.must(err)
	parsed, err := x509.ParsePKIXPublicKey(public.Key)
	i.must(err)
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		t.Fatalf("a public key of type %T", parsed)
	}
	ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, key, []byte("encrypted for Keyholt"), nil)
	i.must(err)
	i.write("ciphertext", ciphertext)
	got := i.run(append([]string{"pkeyutl", "-decrypt", "-inkey", "private.pem", "-in", "ciphertext"}, oaep...)...)
	if string(got) != "encrypted for Keyholt" {
		t.Fatalf("OpenSSL decrypted %q", got)
	}
}

// The tags of an imported key are those of "openssl dgst".
func TestImportedKeyMakesMACsAsOpenSSL(t *testing.T) {
	t.Parallel()
	i := newImporter(t)
	i.write("message", []byte("message"))
	for algorithm, bits := range map[kms.Algorithm]int{kms.AlgorithmHMACSHA256: 256, kms.AlgorithmHMACSHA384: 384, kms.AlgorithmHMACSHA512: 512} {
		i.run("rand", "-out", "secret", fmt.Sprint(bits/8))
		v := i.imports(fmt.Sprintf("webhooks-%d", bits), algorithm, "secret")
		made, err := i.API.GenerateMac(t.Context(), i.Principal, &kms.GenerateMacRequest{Version: v.Name, Message: []byte("message")})
		i.must(err)
		want := i.run("dgst", fmt.Sprintf("-sha%d", bits), "-mac", "HMAC", "-macopt", fmt.Sprintf("hexkey:%x", i.read("secret")), "-binary", "message")
		if !bytes.Equal(made.Mac, want) {
			t.Errorf("%s: %x, OpenSSL says %x", algorithm, made.Mac, want)
		}
	}
}

// An outsider who has the key can check the format: what Tink's XAES-256-GCM makes of the
// key of the C2SP vectors and of the AAD of FORMAT.md opens through the public API, and what
// the service makes opens with Tink.
func TestImportedKeyEncryptsAsTink(t *testing.T) {
	t.Parallel()
	i := newImporter(t)
	for at, b := range []byte{0x01, 0x03} { // the two of C2SP, XAES-256-GCM.md
		k := bytes.Repeat([]byte{b}, 32)
		i.write("k", k)
		v := i.imports(fmt.Sprintf("xaes-%d", at), kms.AlgorithmAES256, "k")
		theirs := newTinkXAES(t, k)
		encryptionContext := map[string]string{"tenant": "7", "table": "cards"}
		aad := []byte("row 12")

		header := append([]byte("KH\x01\x01"), v.UID[:]...)
		sealed, err := theirs.Encrypt([]byte("sealed by Tink"), formatAAD(header, encryptionContext, aad))
		i.must(err)
		binding := kms.Binding{Context: encryptionContext, AAD: aad}
		opened, err := i.API.Decrypt(t.Context(), i.Principal, &kms.DecryptRequest{
			Parent: v.Name.Key().Namespace(), Ciphertext: append(header, sealed...), Binding: binding,
		})
		i.must(err)
		if string(opened.Plaintext) != "sealed by Tink" || opened.Version != v.Name {
			t.Fatalf("%q under %s", opened.Plaintext, opened.Version)
		}

		ours, err := i.API.Encrypt(t.Context(), i.Principal, &kms.EncryptRequest{
			Key: v.Name.Key(), Plaintext: kms.Secret("sealed by Keyholt"), Binding: binding,
		})
		i.must(err)
		if !bytes.HasPrefix(ours.Ciphertext, header) {
			t.Fatalf("the header is %x", ours.Ciphertext[:20])
		}
		plaintext, err := theirs.Decrypt(ours.Ciphertext[20:], formatAAD(ours.Ciphertext[:20], encryptionContext, aad))
		i.must(err)
		if string(plaintext) != "sealed by Keyholt" {
			t.Fatalf("Tink opened %q", plaintext)
		}

		// A wrapped data key: kind 2, and nothing bound.
		header[3] = 2
		dataKey := bytes.Repeat([]byte{7}, 32)
		sealed, err = theirs.Encrypt(dataKey, formatAAD(header, nil, nil))
		i.must(err)
		results, err := i.API.UnwrapDataKeys(t.Context(), i.Principal, &kms.UnwrapDataKeysRequest{
			Parent: v.Name.Key().Namespace(), Items: []kms.DataKeyItem{{Wrapped: append(header, sealed...)}},
		})
		i.must(err)
		if results[0].Err != nil || !bytes.Equal(results[0].DataKey, dataKey) {
			t.Fatalf("UnwrapDataKeys: %v", results[0].Err)
		}
	}
}

// newTinkXAES is Tink's XAES-256-GCM with a 12-byte salt, and so a 24-byte nonce in front.
func newTinkXAES(t *testing.T, key []byte) tink.AEAD {
	t.Helper()
	params, err := xaesgcm.NewParameters(xaesgcm.VariantNoPrefix, 12)
	if err != nil {
		t.Fatal(err)
	}
	k, err := xaesgcm.NewKey(secretdata.NewBytesFromData(key, insecuresecretdataaccess.Token{}), 0, params)
	if err != nil {
		t.Fatal(err)
	}
	manager := keyset.NewManager()
	id, err := manager.AddKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := manager.SetPrimary(id); err != nil {
		t.Fatal(err)
	}
	handle, err := manager.Handle()
	if err != nil {
		t.Fatal(err)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	return primitive
}

// formatAAD is the AAD of FORMAT.md, section 2, made from its words.
func formatAAD(header []byte, encryptionContext map[string]string, aad []byte) []byte {
	field := func(dst, b []byte) []byte {
		return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
	}
	out := binary.BigEndian.AppendUint32(bytes.Clone(header), uint32(len(encryptionContext)))
	for _, key := range slices.Sorted(maps.Keys(encryptionContext)) {
		out = field(field(out, []byte(key)), []byte(encryptionContext[key]))
	}
	return field(out, aad)
}

// The token itself tells an imported key from one that it made.
func TestProvenance(t *testing.T) {
	t.Parallel()
	i := newImporter(t)
	i.run("rand", "-out", "secret", "32")
	imported := i.imports("imported", kms.AlgorithmAES256, "secret")
	_, err := i.API.CreateKey(t.Context(), i.Principal, &kms.CreateKeyRequest{Name: i.key("made")})
	i.must(err)
	for name, made := range map[kms.VersionName]bool{imported.Name: false, i.key("made").Version(1): true} {
		v, err := i.API.GetKeyVersion(t.Context(), i.Principal, name)
		i.must(err)
		if v.Imported == made || v.Host == nil || v.Host.Problem != "" || v.Host.Module == "" || v.Host.Serial == "" {
			t.Fatalf("%s: %+v", name, v)
		}
		for _, a := range []kms.ObjectAttributes{v.Attributes, v.Host.Attributes} {
			if want := hsm.ReportOf(made); a.Local != want || a.AlwaysSensitive != want || a.NeverExtractable != want {
				t.Errorf("%s: %+v", name, a)
			}
			if a.Sensitive != hsm.ReportedTrue || a.Extractable != hsm.ReportedFalse || fmt.Sprint(a.Mechanisms) != "[CKM_AES_ECB]" {
				t.Errorf("%s is not protected: %+v", name, a)
			}
		}
	}
}

// What SoftHSM2 cannot unwrap is refused before anything is made, and the error says what
// it can.
func TestImportCapabilitiesOfSoftHSM(t *testing.T) {
	t.Parallel()
	i := newImporter(t)
	before, err := i.token.Keys(t.Context())
	i.must(err)
	another, err := kms.NewImportJobName(i.job.Name.Namespace(), "another")
	i.must(err)
	for _, method := range []kms.ImportMethod{kms.ImportRSA3072SHA256, kms.ImportRSA4096SHA256} {
		_, err = i.API.CreateImportJob(t.Context(), i.Principal, &kms.CreateImportJobRequest{Name: another, Method: method})
		if !errors.Is(err, kms.ErrUnsupported) || !strings.Contains(err.Error(), "RSA-OAEP with SHA-256") ||
			!strings.Contains(err.Error(), "RSA_OAEP_3072_SHA1_AES_256, RSA_OAEP_4096_SHA1_AES_256") {
			t.Errorf("%s: %v", method, err)
		}
	}
	i.pair("-algorithm", "ED25519")
	block, _ := pem.Decode(i.read("key.pem"))
	_, err = i.API.ImportKeyVersion(t.Context(), i.Principal, &kms.ImportKeyVersionRequest{
		Key: i.key("new"), New: &kms.NewKey{Algorithm: kms.AlgorithmEd25519}, Job: i.job.Name,
		WrappedKey: i.wrapped("private.der"), PublicKey: block.Bytes,
	})
	if !errors.Is(err, kms.ErrUnsupported) || !strings.Contains(err.Error(), "unwrapping of ED25519") ||
		!strings.Contains(err.Error(), "EC_SIGN_P256_SHA256") {
		t.Errorf("Ed25519: %v", err)
	}
	after, err := i.token.Keys(t.Context())
	i.must(err)
	if len(after) != len(before) {
		t.Errorf("%d objects in the token, before %d", len(after), len(before))
	}
}
