package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"
)

// writePEM writes a block in PEM.
func (w *world) writePEM(name, kind string, der []byte, err error) string {
	w.Helper()
	w.must(err)
	return w.write(name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

func TestImportJobCommands(t *testing.T) {
	w := newWorld(t)
	out := w.ok(words("import-job create laptop --ttl 1h")...)
	for _, text := range []string{"laptop", "RSA_OAEP_3072_SHA256_AES_256", "ACTIVE", "namespaces/default/importJobs/laptop", "LOCAL=true"} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in:\n%s", text, out)
		}
	}
	if got := w.ok(words("import-job describe default/laptop")...); got != out {
		t.Errorf("describe:\n%s", got)
	}
	w.ok(words("import-job create another --method rsa_oaep_3072_sha1_aes_256")...)
	if got := w.ok(words("import-job list")...); !strings.Contains(got, "RSA_OAEP_3072_SHA1_AES_256") || strings.Count(got, "ACTIVE") != 2 {
		t.Errorf("list:\n%s", got)
	}
	var listed []struct {
		PublicKey string `json:"public_key"`
	}
	w.must(json.Unmarshal([]byte(w.ok(words("import-job list -o json")...)), &listed))
	der, err := base64.StdEncoding.DecodeString(listed[1].PublicKey)
	w.must(err)
	if _, err := x509.ParsePKIXPublicKey(der); err != nil {
		t.Error(err)
	}
	w.fails(exitFailure, words("import-job create laptop"), "IMPORT_JOB_EXISTS")
	w.fails(exitFailure, words("import-job describe unknown"), "IMPORT_JOB_NOT_FOUND")
	w.fails(exitFailure, words("import-job create long --ttl 721h"), "ttl")
	w.fails(exitFailure, words("import-job create short --ttl 0s"), "ttl")
	w.fails(exitUsage, words("import-job create x --method RSA"), "--method", "RSA_OAEP_4096_SHA256_AES_256")
	w.fails(exitUsage, words("import-job describe a/b/c"), `import job "a/b/c"`)
}

// A job whose time has passed is named, with what to do, before a key is wrapped for it.
func TestKeyImportByAnExpiredJob(t *testing.T) {
	w := newWorld(t)
	w.ok(words("import-job create short --ttl 1s")...)
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for !strings.Contains(w.ok(words("import-job describe short")...), "EXPIRED") {
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatal("the job does not expire")
		}
	}
	w.failsWith(strings.Repeat("k", 32), exitFailure, words("key import orders --job short --create"),
		"importJobs/short is EXPIRED since 20", "kmsctl import-job create")
}

// The key comes from a file or standard input, and leaves this machine wrapped only.
func TestKeyImport(t *testing.T) {
	w := newWorld(t)
	w.ok(words("import-job create laptop")...)
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	before, err := os.ReadDir(w.dir)
	w.must(err)

	out := w.okWith(string(secret), words("key import webhooks --job laptop --in - --create --algorithm HMAC_SHA256 --label from=laptop")...)
	for _, text := range []string{"default/webhooks", "IMPORTED", "LOCAL=false", "HMAC_SHA256", "the only replica knows it"} {
		if !strings.Contains(out, text) {
			t.Errorf("no %q in:\n%s", text, out)
		}
	}
	after, err := os.ReadDir(w.dir)
	w.must(err)
	if len(after) != len(before) {
		t.Errorf("%d files, before %d", len(after), len(before))
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("message"))
	if got := w.okWith("message", words("mac webhooks")...); !hmac.Equal([]byte(got), mac.Sum(nil)) {
		t.Error("another key was imported")
	}
	if got := w.ok(words("key get webhooks")...); !strings.Contains(got, "from=laptop") {
		t.Errorf("the key:\n%s", got)
	}

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	sec1, err := x509.MarshalECPrivateKey(ec)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	file := w.writePEM("ec.pem", "EC PRIVATE KEY", sec1, err)
	w.write("ec.pem", string(parameters)+w.read("ec.pem"))
	w.ok("key", "import", "releases", "--job", "default/laptop", "--in", file, "--create", "--algorithm", "EC_SIGN_P256_SHA256")
	w.ok(words("public-key releases --out " + w.file("pub.pem"))...)
	if !ec.PublicKey.Equal(w.publicKey("pub.pem")) {
		t.Error("another public key")
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ec)
	out = w.ok("key", "import", "releases", "--job", "laptop", "--in", w.writePEM("ec8.pem", "PRIVATE KEY", pkcs8, err), "--make-primary")
	if !strings.Contains(out, "versions/2") {
		t.Errorf("into an existing key:\n%s", out)
	}
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	file = w.writePEM("rsa.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(old), nil)
	w.ok("key", "import", "inbox", "--job", "laptop", "--in", file, "--create", "--algorithm", "RSA_DECRYPT_OAEP_2048_SHA256")

	w.ok(words("key create orders")...)
	if out = w.okWith(string(secret), words("key import orders --job laptop -o json")...); !strings.Contains(out, `"imported": true`) {
		t.Errorf("as JSON:\n%s", out)
	}
	for range 2 {
		out = w.ok("key", "set-primary", "orders/2", "--reason", "moved in")
		if !strings.Contains(out, "orders/versions/2") || !strings.Contains(out, "the only replica knows it") {
			t.Errorf("set-primary:\n%s", out)
		}
	}
	if out = w.ok(words("key get orders -o json")...); !strings.Contains(out, `"primary_version": "namespaces/default/keys/orders/versions/2"`) {
		t.Errorf("the key:\n%s", out)
	}
	w.fails(exitFailure, words("key set-primary orders/3"), "KEY_VERSION_NOT_FOUND")
	w.fails(exitUsage, words("key set-primary orders"), "orders")
}

func TestKeyImportRefusals(t *testing.T) {
	w := newWorld(t)
	w.ok(words("import-job create laptop")...)
	w.ok(words("key create orders")...)
	ec, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	w.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	p384 := w.writePEM("p384.pem", "PRIVATE KEY", der, err)
	encrypted := w.writePEM("encrypted.pem", "ENCRYPTED PRIVATE KEY", der, nil)
	w.write("old.pem", "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n")
	secret := strings.Repeat("k", 32)
	signing := "key import new --create --algorithm EC_SIGN_P256_SHA256 --job laptop --in "
	for _, test := range []struct {
		stdin string
		code  int
		args  string
		says  []string
	}{
		{secret, exitUsage, "key import orders", []string{"--job is required"}},
		{secret, exitUsage, "key import orders --job laptop --label a=b", []string{"--label is for new keys"}},
		{secret, exitUsage, "key import new --job laptop --create --purpose ASYMMETRIC_DECRYPT", []string{"--algorithm is required"}},
		{secret, exitFailure, "key import orders --job unknown", []string{"IMPORT_JOB_NOT_FOUND"}},
		{secret, exitFailure, "key import unknown --job laptop", []string{"KEY_NOT_FOUND"}},
		{secret, exitFailure, "key import orders --job laptop --create", []string{"KEY_EXISTS"}},
		{secret + "\n", exitFailure, "key import orders --job laptop", []string{"33 bytes", "AES_256 is 32 bytes"}},
		{"", exitFailure, "key import orders --job laptop", []string{"0 bytes"}},
		{strings.Repeat("k", 17<<10), exitFailure, "key import orders --job laptop", []string{"it is no key"}},
		{secret, exitFailure, signing + "-", []string{"no private key in PEM"}},
		{"", exitFailure, signing + encrypted, []string{"encrypted", "openssl pkey"}},
		{"", exitFailure, signing + w.file("old.pem"), []string{"encrypted"}},
		{"", exitFailure, signing + p384, []string{"is no key of EC_SIGN_P256_SHA256"}}, // said here, before anything is wrapped
		{"", exitFailure, signing + w.file("missing"), []string{"no such file"}},
	} {
		w.failsWith(test.stdin, test.code, words(test.args), test.says...)
	}
	w.failsWith(secret, exitUsage, words("key import orders --job laptop --create --make-primary"), "create", "make-primary")
}

// What was read of the key is overwritten.
func TestKeyMaterialIsWiped(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	material, err := marshalPair(ec)
	if err != nil {
		t.Fatal(err)
	}
	key := material.key
	if bytes.Count(key, []byte{0}) == len(key) {
		t.Fatal("there is no key")
	}
	if material.wipe(); bytes.Count(key, []byte{0}) != len(key) {
		t.Error("the key is still there")
	}
}
