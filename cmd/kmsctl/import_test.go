package main

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
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
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
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
	w.fails(exitFailure, words("import-job create laptop"), "IMPORT_JOB_EXISTS", "import-job describe")
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
	// A STRICT version that was used elsewhere is enabled, and makes nothing new: to enable it is no advice.
	w.okWith(string(secret), words("key import cards --job laptop --create --profile STRICT")...)
	w.failsWith("text", exitFailure, words("encrypt cards --out "+w.file("cards.khf")), "protects nothing new", `What to do: Make a new primary version with "kmsctl rotate KEY".`)
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
		{"", exitFailure, "key import orders --job laptop", []string{"the input is empty: it is no key"}},
		{"", exitFailure, signing + "-", []string{"the input is empty: it is no key"}},
		{strings.Repeat("k", 17<<10), exitFailure, "key import orders --job laptop", []string{"it is no key"}},
		{secret + "\n", exitFailure, signing + "-", []string{"no private key in PEM"}},
		{"", exitFailure, signing + encrypted, []string{"encrypted", "openssl pkey"}},
		{"", exitFailure, signing + w.file("old.pem"), []string{"encrypted"}},
		// Said here, before anything is wrapped.
		{"", exitFailure, signing + p384, []string{"is an EC key on P-384: it fits EC_SIGN_P384_SHA384, not EC_SIGN_P256_SHA256", "--algorithm"}},
		{"", exitFailure, "key import orders --job laptop --in " + p384, []string{"it fits EC_SIGN_P384_SHA384, not AES_256"}},
		{secret, exitFailure, signing + "-", []string{"is 32 bytes without encoding: it fits AES_256 or HMAC_SHA256, not EC_SIGN_P256_SHA256"}},
		{secret + secret, exitFailure, "key import orders --job laptop", []string{"it fits HMAC_SHA512, not AES_256"}},
		{"", exitFailure, signing + w.file("missing"), []string{"no such file"}},
	} {
		w.failsWith(test.stdin, test.code, words(test.args), test.says...)
	}
	w.failsWith(secret, exitUsage, words("key import orders --job laptop --create --make-primary"), "create", "make-primary")
}

// What a key is for decides where it can go: which keys there are is told, whoever is wrong.
func TestMisfits(t *testing.T) {
	w := &world{T: t, dir: t.TempDir()}
	pem := func(private any) string {
		der, err := x509.MarshalPKCS8PrivateKey(private)
		return w.read(filepath.Base(w.writePEM("key.pem", "PRIVATE KEY", der, err)))
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	w.must(err)
	for name, test := range map[string]struct {
		input  string
		wanted kms.Algorithm
		says   []string
	}{
		"of the same purpose": {pem(rsaKey), kms.AlgorithmEd25519, []string{"is an RSA key of 2048 bits: it fits RSA_SIGN_PKCS1_2048_SHA256, ",
			" or RSA_SIGN_PSS_2048_SHA512, not EC_SIGN_ED25519"}},
		"of another purpose": {pem(rsaKey), kms.AlgorithmAES256, []string{"RSA_SIGN_PKCS1_2048_SHA256, ", "RSA_DECRYPT_OAEP_2048_SHA1, not AES_256"}},
		"of none":            {pem(x25519), kms.AlgorithmEd25519, []string{"the input, a key for X25519, is no key of EC_SIGN_ED25519"}},
	} {
		_, err := readKeyMaterial(strings.NewReader(test.input), test.wanted)
		for _, text := range test.says {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: does not say %q: %v", name, text, err)
			}
		}
	}
	public, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: rsaKey.N, E: 3})
	w.must(err)
	want := "2048 bits with the exponent 3 (65537 is the least), is no key of RSA_SIGN_PKCS1_2048_SHA256"
	if err := checkFits(kms.AlgorithmRSA2048PKCS1SHA256, public); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a small exponent: %v", err)
	}
}

// offline runs kmsctl where no service can be reached, and no profile read; it must succeed.
func (w *world) offline(stdin string, args ...string) (stdout, stderr string) {
	w.Helper()
	profile := w.profile
	defer func() { w.profile = profile }()
	w.profile = w.file("missing.yaml")
	stdout, stderr, code := w.exit(stdin, args...)
	if code != exitOK {
		w.Fatalf("kmsctl %s: exit code %d\n%s", strings.Join(args, " "), code, stderr)
	}
	return stdout, stderr
}

// A key that was wrapped on another machine is imported by one that never sees it.
func TestKeyImportWrapped(t *testing.T) {
	w := newWorld(t)
	described := w.ok(words("import-job create laptop")...)
	job := w.write("laptop.json", w.ok(words("import-job describe laptop -o json")...))
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)

	wrapped, said := w.offline(string(secret), words("import-job wrap "+job)...)
	if len(wrapped) != 384+40 || strings.Contains(wrapped, string(secret)) {
		t.Errorf("%d bytes are wrapped", len(wrapped))
	}
	for _, text := range []string{"namespaces/default/importJobs/laptop", "imports until 20", "SHA-256 "} {
		if !strings.Contains(said, text) {
			t.Errorf("no %q in %s", text, said)
		}
	}
	if sum := said[strings.LastIndex(said, "SHA-256"):]; !strings.Contains(described, strings.TrimSpace(sum)) {
		t.Errorf("another public key: %s, the job's is\n%s", sum, described)
	}
	out := w.okWith(wrapped, words("key import webhooks --job laptop --wrapped - --create --algorithm HMAC_SHA256 --label from=laptop")...)
	if !strings.Contains(out, "default/webhooks") || !strings.Contains(out, "IMPORTED") {
		t.Errorf("imported:\n%s", out)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("message"))
	if got := w.okWith("message", words("mac webhooks")...); !hmac.Equal([]byte(got), mac.Sum(nil)) {
		t.Error("another key was imported")
	}

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	private := w.writePEM("ec.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(ec.Public())
	public := w.writePEM("ec-pub.pem", "PUBLIC KEY", der, err)
	w.offline("", "import-job", "wrap", job, "--in", private, "--algorithm", "EC_SIGN_P256_SHA256", "--out", w.file("wrapped"))
	w.ok("key", "import", "releases", "--job", "laptop", "--wrapped", w.file("wrapped"), "--create", "--algorithm", "EC_SIGN_P256_SHA256")
	out = w.ok("key", "import", "releases", "--job", "laptop", "--wrapped", w.file("wrapped"), "--public-key", public, "--make-primary")
	if !strings.Contains(out, "versions/2") {
		t.Errorf("into an existing key:\n%s", out)
	}
	for _, version := range []string{"1", "2"} {
		w.ok("public-key", "releases", "--version", version, "--out", w.file("pub"+version+".pem"))
		if !ec.PublicKey.Equal(w.publicKey("pub" + version + ".pem")) {
			t.Errorf("version %s has another public key", version)
		}
	}

	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	der, err = x509.MarshalPKCS8PrivateKey(ed)
	private = w.writePEM("ed.pem", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(edPublic)
	public = w.writePEM("ed-pub.pem", "PUBLIC KEY", der, err)
	w.offline("", "import-job", "wrap", job, "--in", private, "--algorithm", "EC_SIGN_ED25519", "--out", w.file("wrapped-ed"))
	w.fails(exitUsage, words("key import notes --job laptop --create --algorithm EC_SIGN_ED25519 --wrapped "+w.file("wrapped-ed")),
		"--public-key is required")
	w.ok("key", "import", "notes", "--job", "laptop", "--create", "--algorithm", "EC_SIGN_ED25519",
		"--wrapped", w.file("wrapped-ed"), "--public-key", public)

	// The public key of another private key is noticed by the HSM, one of another algorithm here.
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.must(err)
	der, err = x509.MarshalPKIXPublicKey(other.Public())
	file := w.writePEM("other-pub.pem", "PUBLIC KEY", der, err)
	sign := "key import releases --job laptop --wrapped " + w.file("wrapped") + " --public-key "
	w.fails(exitFailure, words(sign+file), "WRAPPED_KEY_REFUSED")
	w.fails(exitFailure, words(sign+public), "is an Ed25519 key: it fits EC_SIGN_ED25519, not EC_SIGN_P256_SHA256")
	if got := w.ok(words("key versions releases -o json")...); strings.Count(got, `"uid"`) != 2 {
		t.Errorf("there are other versions:\n%s", got)
	}
}

func TestKeyImportWrappedRefusals(t *testing.T) {
	w := newWorld(t)
	w.ok(words("import-job create laptop")...)
	w.ok(words("key create orders")...)
	w.ok(words("key create releases --algorithm RSA_SIGN_PKCS1_2048_SHA256")...)
	job := w.write("laptop.json", w.ok(words("import-job describe laptop -o json")...))
	wrapped := w.file("wrapped")
	w.offline(strings.Repeat("k", 32), "import-job", "wrap", job, "--in", "-", "--out", wrapped)
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(old)
	private := w.writePEM("rsa.pem", "PRIVATE KEY", pkcs8, err)
	changed := []byte(w.read("wrapped"))
	changed[len(changed)-1] ^= 1
	for _, test := range []struct {
		stdin string
		code  int
		args  string
		says  []string
	}{
		{"", exitUsage, "orders --wrapped " + wrapped, []string{"--job is required"}},
		{"", exitUsage, "orders --job laptop --in - --wrapped " + wrapped, []string{"give one of them"}},
		{"", exitUsage, "orders --job laptop --wrapped=", []string{"--wrapped: want a file"}},
		{"", exitUsage, "orders --job laptop --public-key x", []string{"--public-key belongs to --wrapped"}},
		{"", exitUsage, "releases --job laptop --public-key= --wrapped " + wrapped, []string{"--public-key: want a file"}},
		{"", exitUsage, "orders --job laptop --public-key x --wrapped " + wrapped, []string{"a key of AES_256 has none"}},
		{"", exitUsage, "orders --job laptop --algorithm AES_256 --wrapped " + wrapped, []string{"--algorithm is for new keys"}},
		{"", exitUsage, "new --create --make-primary --job laptop --wrapped " + wrapped, []string{"make-primary"}},
		{"", exitFailure, "orders --job unknown --wrapped " + wrapped, []string{"IMPORT_JOB_NOT_FOUND"}},
		{"", exitFailure, "orders --job laptop --wrapped " + w.file("missing"), []string{"no such file"}},
		{"", exitFailure, "releases --job laptop --wrapped " + wrapped + " --public-key " + private, []string{"rsa.pem holds no public key"}},
		{strings.Repeat("x", 17<<10), exitFailure, "orders --job laptop --wrapped -", []string{"it is no wrapped key"}},
		{string(changed), exitFailure, "orders --job laptop --wrapped -", []string{"WRAPPED_KEY_REFUSED"}},
		// What is not wrapped stays here.
		{strings.Repeat("k", 32), exitFailure, "orders --job laptop --wrapped -", []string{"has 32 bytes", "384 of RSA ciphertext", "40 of AES key wrap"}},
		{string(pkcs8), exitFailure, "releases --job laptop --wrapped -", []string{"it was not sent", "--in"}},
		{w.read("rsa.pem"), exitFailure, "releases --job laptop --wrapped -", []string{"it was not sent"}},
	} {
		w.failsWith(test.stdin, test.code, append([]string{"key", "import"}, words(test.args)...), test.says...)
	}
	if got := w.ok(words("key versions orders -o json")...); strings.Count(got, `"uid"`) != 1 {
		t.Errorf("there is another version:\n%s", got)
	}
}

// Wrapping needs no service, but a description of the job that is one.
func TestImportJobWrapRefusals(t *testing.T) {
	w := newWorld(t)
	w.ok(words("import-job create laptop")...)
	text := w.ok(words("import-job describe laptop -o json")...)
	job := w.write("laptop.json", text)
	expired := w.write("expired.json", strings.Replace(text, "STATE_ACTIVE", "STATE_EXPIRED", 1))
	unknown := w.write("unknown.json", strings.Replace(text, `"method"`, `"methods"`, 1))
	noKey := w.write("no-key.json", `{"name": "namespaces/default/importJobs/laptop", "state": "IMPORT_JOB_STATE_ACTIVE", "method": 1}`)
	secret := strings.Repeat("k", 32)
	for _, test := range []struct {
		stdin string
		code  int
		args  string
		says  []string
	}{
		{secret, exitUsage, "", []string{"got no argument, want: kmsctl import-job wrap FILE"}},
		{secret, exitUsage, job + " -o json", []string{"--output does not apply"}},
		{secret, exitUsage, job + " --algorithm AES", []string{"--algorithm", "AES_256"}},
		{secret, exitFailure, w.file("missing.json"), []string{"no such file"}},
		{secret, exitFailure, w.profile, []string{"profile.yaml describes no import job", "import-job describe JOB -o json"}},
		{secret, exitFailure, unknown, []string{"unknown.json describes no import job", `"methods"`}},
		{secret, exitFailure, expired, []string{"importJobs/laptop is EXPIRED since 20"}},
		{secret, exitFailure, noKey, []string{"import_job.public_key: is none of RSA_OAEP_3072_SHA1_AES_256"}},
		{secret, exitFailure, w.write("empty.json", "{}"), []string{"empty.json describes no import job"}},
		{secret + "\n", exitFailure, job, []string{"33 bytes", "AES_256 is 32 bytes"}},
		{secret, exitFailure, job + " --algorithm EC_SIGN_P256_SHA256", []string{"it fits AES_256 or HMAC_SHA256, not EC_SIGN_P256_SHA256"}},
		{secret, exitFailure, job + " --out " + job, []string{"laptop.json exists; add --force"}},
	} {
		w.failsWith(test.stdin, test.code, append([]string{"import-job", "wrap"}, words(test.args)...), test.says...)
	}
	w.terminal = true
	w.failsWith(secret, exitUsage, []string{"import-job", "wrap", job}, "the result is binary")
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
