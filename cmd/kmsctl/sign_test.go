package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

// publicKey reads a file that public-key has written.
func (w *world) publicKey(name string) any {
	w.Helper()
	block, rest := pem.Decode([]byte(w.read(name)))
	if block == nil || block.Type != "PUBLIC KEY" || len(rest) > 0 {
		w.Fatalf("%s is no public key in PEM", name)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	w.must(err)
	return key
}

// publicKeyOf is publicKey for a type of keys.
func publicKeyOf[K any](w *world, name string) K {
	w.Helper()
	key, ok := w.publicKey(name).(K)
	if !ok {
		w.Fatalf("%s holds a %T", name, w.publicKey(name))
	}
	return key
}

func TestSignAndVerify(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create releases --algorithm ec_sign_p256_sha256")...)
	data := w.write("data", strings.Repeat("0123456789", 300_000)) // more than a message has
	sig := w.file("sig")
	_, stderr, code := w.exit("", "sign", "releases", "--in", data, "--out", sig)
	if code != exitOK || !strings.Contains(stderr, "signed by namespaces/default/keys/releases/versions/1 (EC_SIGN_P256_SHA256)") {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	w.ok("public-key", "releases", "--out", w.file("pub.pem"))
	digest := sha256.Sum256([]byte(w.read("data")))
	if !ecdsa.VerifyASN1(publicKeyOf[*ecdsa.PublicKey](w, "pub.pem"), digest[:], []byte(w.read("sig"))) {
		t.Error("Go does not verify the signature")
	}
	out := w.ok("verify", "releases", "--signature", sig, "--in", data)
	for _, text := range []string{"valid", "versions/1", "ENABLED", "EC_SIGN_P256_SHA256"} {
		if !strings.Contains(out, text) || strings.Contains(out, "NOT VALID") {
			t.Errorf("no %q in:\n%s", text, out)
		}
	}

	raw := w.okWith("short", words("sign releases --raw")...)
	if len(raw) != 64 {
		t.Errorf("a raw signature of %d bytes", len(raw))
	}
	w.write("raw", raw)
	w.okWith("short", "verify", "releases", "--raw", "--signature", w.file("raw"))

	stdout, stderr, code := w.exit("shorter", "verify", "releases", "--raw", "--signature", w.file("raw"))
	if code != exitFailure || !strings.Contains(stdout, "NOT VALID") || !strings.Contains(stderr, "--version") {
		t.Errorf("another input: exit code %d\n%s\n%s", code, stdout, stderr)
	}

	// After a rotation the version is to be named.
	w.ok(words("rotate releases")...)
	if stdout, _, code := w.exit("", "verify", "releases", "--signature", sig, "--in", data); code != exitFailure || !strings.Contains(stdout, "NOT VALID") {
		t.Errorf("under the new version: exit code %d\n%s", code, stdout)
	}
	w.ok("verify", "releases", "--version", "1", "--signature", sig, "--in", data)
	if _, stderr, _ := w.exit("x", words("sign releases --version 1")...); !strings.Contains(stderr, "versions/1") {
		t.Errorf("version 1 does not sign: %s", stderr)
	}

	// A revoked version's signature is told, and not good.
	w.ok(words("revoke releases/1 --reason leaked --accept-data-loss -y")...)
	stdout, stderr, code = w.exit("", "verify", "releases", "--version", "1", "--signature", sig, "--in", data)
	if code != exitFailure || !strings.Contains(stdout, "REVOKED") || strings.Contains(stdout, "NOT VALID") || !strings.Contains(stderr, "anybody's") {
		t.Errorf("a revoked version: exit code %d\n%s\n%s", code, stdout, stderr)
	}
	var verdict map[string]any
	w.must(json.Unmarshal([]byte(w.ok("verify", "releases", "--version", "1", "--signature", sig, "--in", data, "--accept-revoked", "-o", "json")), &verdict))
	if verdict["valid"] != true || verdict["state"] != "KEY_VERSION_STATE_REVOKED" {
		t.Errorf("%v", verdict)
	}
	w.failsWith("x", exitFailure, words("sign releases --version 1"), "KEY_VERSION_REVOKED")
	if _, stderr, code := w.exit("", words("public-key releases --version 1")...); code != exitOK || !strings.Contains(stderr, "REVOKED") {
		t.Errorf("the public key of a revoked version: exit code %d, %s", code, stderr)
	}
}

func TestSignEd25519(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create letters --algorithm EC_SIGN_ED25519")...)
	w.ok("public-key", "letters", "--out", w.file("pub.pem"))
	for _, size := range []int{1, kms.MaxMessage} {
		message := strings.Repeat("m", size)
		signature := w.okWith(message, words("sign letters")...)
		if !ed25519.Verify(publicKeyOf[ed25519.PublicKey](w, "pub.pem"), []byte(message), []byte(signature)) {
			t.Errorf("Go does not verify the signature of %d bytes", size)
		}
		w.write("sig", signature)
		w.okWith(message, "verify", "letters", "--signature", w.file("sig"))
	}
	w.failsWith(strings.Repeat("m", kms.MaxMessage+1), exitFailure, words("sign letters"),
		"longer than 65536 bytes", "EC_SIGN_ED25519 signs the message itself", "key of another algorithm")
	w.failsWith("", exitFailure, words("sign letters"), "the input is empty: EC_SIGN_ED25519 signs the message itself")
	w.failsWith("m", exitFailure, []string{"verify", "letters", "--signature", w.write("none", "")}, "none is empty: it is no signature")
}

func TestSigningUsage(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	w.ok(words("key create releases --purpose asymmetric_sign")...)
	w.fails(exitFailure, words("sign orders"), "WRONG_KEY_PURPOSE", "ENCRYPT_DECRYPT (AES_256)")
	w.fails(exitFailure, words("sign absent"), "KEY_NOT_FOUND")
	w.fails(exitFailure, words("sign releases --version 7"), "KEY_VERSION_NOT_FOUND")
	w.fails(exitFailure, words("sign releases --in "+w.file("absent")), "no such file")
	w.fails(exitUsage, words("sign releases -o json"), "--output does not apply")
	w.fails(exitUsage, words("sign Releases"), "key \"Releases\"")
	w.fails(exitUsage, words("verify releases"), "--signature FILE is required")
	w.fails(exitFailure, words("verify releases --signature "+w.file("absent")), "no such file")
	long := w.write("long", strings.Repeat("s", kms.MaxSignature+1))
	w.fails(exitFailure, words("verify releases --signature "+long), "it is no signature")
	w.fails(exitFailure, words("verify orders --signature "+w.write("sig", "s")), "WRONG_KEY_PURPOSE")
	w.fails(exitUsage, words("public-key releases --format xml"), "want pem, der or jwk")
	w.fails(exitFailure, words("public-key orders"), "WRONG_KEY_PURPOSE")
	w.fails(exitUsage, words("key create k --algorithm RSA"), "want AES_256, EC_SIGN_P256_SHA256")
	w.fails(exitUsage, words("key create k --purpose sign"), "want ENCRYPT_DECRYPT, ASYMMETRIC_SIGN")
	w.fails(exitFailure, words("key create k --purpose MAC --algorithm EC_SIGN_ED25519"), "EC_SIGN_ED25519 is not for MAC")
	w.fails(exitFailure, words("key create k --purpose ASYMMETRIC_DECRYPT"), "is required for ASYMMETRIC_DECRYPT")
	w.fails(exitFailure, words("key create k --purpose MAC --profile STRICT"), "key.protection_profile")
	w.terminal = true
	w.fails(exitUsage, words("sign releases"), "the result is binary")
	w.fails(exitUsage, words("mac releases"), "the result is binary")
	w.fails(exitUsage, words("public-key releases --format der"), "the result is binary")
}

func TestMac(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create webhooks --purpose mac")...)
	tag := w.okWith("body", words("mac webhooks")...)
	if len(tag) != 32 {
		t.Fatalf("a tag of %d bytes", len(tag))
	}
	w.write("tag", tag)
	if out := w.okWith("body", "mac", "verify", "webhooks", "--mac", w.file("tag")); !strings.Contains(out, "HMAC_SHA256") {
		t.Errorf("verdict:\n%s", out)
	}
	w.write("short", tag[:31])
	for input, file := range map[string]string{"body ": "tag", "body": "short"} {
		stdout, stderr, code := w.exit(input, "mac", "verify", "webhooks", "--mac", w.file(file))
		if code != exitFailure || !strings.Contains(stdout, "NOT VALID") || !strings.Contains(stderr, "the tag is not") {
			t.Errorf("%s: exit code %d\n%s\n%s", file, code, stdout, stderr)
		}
	}
	w.ok(words("rotate webhooks")...)
	if _, _, code := w.exit("body", "mac", "verify", "webhooks", "--mac", w.file("tag")); code != exitFailure {
		t.Error("the tag of version 1 is good for version 2")
	}
	w.okWith("body", "mac", "verify", "webhooks", "--mac", w.file("tag"), "--version", "1")
	w.ok(words("revoke webhooks/1 --reason leaked --accept-data-loss -y")...)
	w.failsWith("body", exitFailure, []string{"mac", "verify", "webhooks", "--mac", w.file("tag"), "--version", "1"}, "KEY_VERSION_REVOKED")
	w.failsWith("", exitFailure, words("mac webhooks"), "the input is empty: no tag is made of it", "make a digest, and the tag of that")
	w.failsWith("", exitFailure, []string{"mac", "verify", "webhooks", "--mac", w.file("tag")}, "the input is empty")
	w.failsWith("body", exitFailure, []string{"mac", "verify", "webhooks", "--mac", w.write("none", "")}, "none is empty: it is no tag")
	w.failsWith(strings.Repeat("m", kms.MaxMessage+1), exitFailure, words("mac webhooks"), "make the tag of a digest")
	w.fails(exitUsage, words("mac verify webhooks"), "--mac FILE is required")
	w.fails(exitUsage, words("mac"), "got no argument")
	w.ok(words("key create verify --purpose mac")...)
	w.okWith("body", words("mac default/verify")...)
}

func TestPublicKeyFormats(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create releases --algorithm EC_SIGN_P384_SHA384")...)
	block, _ := pem.Decode([]byte(w.ok(words("public-key releases")...)))
	if block == nil || string(block.Bytes) != w.ok(words("public-key releases --format der")...) {
		t.Error("PEM and DER differ")
	}
	var key map[string]string
	w.must(json.Unmarshal([]byte(w.ok(words("public-key releases --format JWK")...)), &key))
	if key["crv"] != "P-384" || key["alg"] != "ES384" || key["kid"] == "" || key["use"] != "sig" {
		t.Errorf("JWK %v", key)
	}
	w.ok("public-key", "releases", "--out", w.file("pub"))
	w.fails(exitFailure, []string{"public-key", "releases", "--out", w.file("pub")}, "exists; add --force")
	w.ok("public-key", "releases", "--out", w.file("pub"), "--force")
	w.noLeftovers()
}

func TestAsymmetricDecrypt(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create inbox --algorithm RSA_DECRYPT_OAEP_2048_SHA256")...)
	w.ok("public-key", "inbox", "--out", w.file("pub.pem"))
	ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, publicKeyOf[*rsa.PublicKey](w, "pub.pem"), []byte("attack at dawn"), nil)
	w.must(err)
	w.must(os.WriteFile(w.file("cipher"), ciphertext, 0o600))
	if got := w.ok("asymmetric-decrypt", "inbox", "--in", w.file("cipher")); got != "attack at dawn" {
		t.Errorf("got %q", got)
	}
	w.ok(words("rotate inbox")...)
	w.fails(exitFailure, []string{"asymmetric-decrypt", "inbox", "--in", w.file("cipher")}, "DECRYPTION_FAILED", "--version")
	if got := w.ok("asymmetric-decrypt", "inbox", "--version", "1", "--in", w.file("cipher")); got != "attack at dawn" {
		t.Errorf("got %q", got)
	}
	w.failsWith("short", exitFailure, words("asymmetric-decrypt inbox"), "MALFORMED_CIPHERTEXT")
	w.failsWith(strings.Repeat("x", 2000), exitFailure, words("asymmetric-decrypt inbox"), "no single ciphertext")
}

func TestCSR(t *testing.T) {
	w := newWorld(t)
	for _, algorithm := range []string{"EC_SIGN_P256_SHA256", "EC_SIGN_ED25519", "RSA_SIGN_PSS_2048_SHA384", "RSA_SIGN_PKCS1_2048_SHA512"} {
		key := strings.ToLower(algorithm)
		w.ok("key", "create", key, "--algorithm", algorithm)
		text := w.ok("csr", key, "--subject", `CN=web, O=Example\, Inc.,O=Other,C=DE`, "--dns", "web.example", "--dns", "*.web.example",
			"--ip", "192.0.2.1", "--email", "ops@web.example", "--uri", "spiffe://example/web")
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
			t.Fatalf("%s:\n%s", algorithm, text)
		}
		request, err := x509.ParseCertificateRequest(block.Bytes)
		w.must(err)
		w.must(request.CheckSignature())
		if got := request.Subject.String(); got != `CN=web,O=Other+O=Example\, Inc.,C=DE` {
			t.Errorf("%s: subject %s", algorithm, got)
		}
		if len(request.DNSNames) != 2 || len(request.IPAddresses) != 1 || len(request.EmailAddresses) != 1 || len(request.URIs) != 1 {
			t.Errorf("%s: %+v", algorithm, request)
		}
	}
	w.ok(words("rotate ec_sign_p256_sha256")...)
	w.ok("csr", "ec_sign_p256_sha256", "--subject", "CN=old", "--version", "1", "--out", w.file("old.csr"))
	w.ok("public-key", "ec_sign_p256_sha256", "--version", "1", "--out", w.file("old.pem"))
	block, _ := pem.Decode([]byte(w.read("old.csr")))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	w.must(err)
	if !publicKeyOf[*ecdsa.PublicKey](w, "old.pem").Equal(request.PublicKey) {
		t.Error("the request is for another version's key")
	}
	w.fails(exitUsage, words("csr ec_sign_p256_sha256"), "--subject NAME is required")
	w.fails(exitUsage, words("csr ec_sign_p256_sha256 --subject CN=a --ip web"), "want an IP address")
	w.fails(exitUsage, words("csr ec_sign_p256_sha256 --subject CN=a --uri web"), "want an absolute URI")
	w.fails(exitUsage, words("csr ec_sign_p256_sha256 --subject web"), "is not ATTRIBUTE=VALUE")
	w.ok(words("key create orders")...)
	w.fails(exitFailure, words("csr orders --subject CN=a"), "WRONG_KEY_PURPOSE")
}

func TestSubjects(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "",
		"CN=a":                           "CN=a",
		"cn = a , ou=b":                  "CN=a,OU=b", // spaces before an attribute and after a value are no part of them
		`O=Example\, Inc.,CN=x\+y`:       `CN=x\+y,O=Example\, Inc.`,
		"ST=s,L=l,STREET=r,POSTALCODE=p": "POSTALCODE=p,STREET=r,L=l,ST=s",
		"SERIALNUMBER=7":                 "SERIALNUMBER=7",
	} {
		name, err := parseSubject(text)
		if got := name.String(); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"a", "CN=", "CN=a,", "CN=a,CN=b", "DC=a", "CN=a+OU=b", `CN=a\`, `CN=\41`, `CN=\ a`, `CN="a"`, "CN=a;OU=b"} {
		if name, err := parseSubject(text); err == nil {
			t.Errorf("%q is %s", text, name)
		}
	}
}

func TestDescribe(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create releases --algorithm EC_SIGN_P256_SHA256")...)
	out := w.ok(words("key describe releases/1")...)
	for _, text := range []string{"EC_SIGN_P256_SHA256", "origin", "HSM", "LOCAL=true", "host reports", "no proof", "usage"} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in:\n%s", text, out)
		}
	}
	list := w.ok(words("key versions releases")...)
	if !strings.Contains(list, "ALGORITHM") || !strings.Contains(list, "ORIGIN") || strings.Contains(list, "LOCAL") {
		t.Errorf("list:\n%s", list)
	}
	var version struct {
		Algorithm  string         `json:"algorithm"`
		Imported   bool           `json:"imported"`
		Attributes map[string]any `json:"attributes"`
		HostReport struct {
			Attributes map[string]any `json:"attributes"`
			Usable     bool           `json:"usable"`
		} `json:"host_report"`
	}
	w.must(json.Unmarshal([]byte(w.ok(words("key describe releases/1 -o json")...)), &version))
	if version.Algorithm != "ALGORITHM_EC_SIGN_P256_SHA256" || version.Imported || version.Attributes["local"] != true ||
		version.HostReport.Attributes["never_extractable"] != true || !version.HostReport.Usable {
		t.Errorf("%+v", version)
	}
}
