package softhsmtest_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keyholt/keyholt/kms/client"
)

// kmsctl is the real program, connected to a service on a SoftHSM2 token, and openssl, in one
// directory.
type kmsctl struct {
	*openssl
	program string
	profile client.Profile
}

func newKmsctl(t *testing.T) *kmsctl {
	t.Helper()
	o := newOpenSSL(t)
	program := filepath.Join(t.TempDir(), "kmsctl")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/kmsctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return &kmsctl{openssl: o, program: program, profile: serveProfiles(t, o.token)("admin")}
}

// ctl runs kmsctl as the administrator, and returns what it prints.
func (k *kmsctl) ctl(arguments ...string) []byte {
	k.Helper()
	return k.runProgram(k.program, append(arguments, "--address", k.profile.Address, "--ca-file", k.profile.CAFile,
		"--cert-file", k.profile.CertFile, "--key-file", k.profile.KeyFile)...)
}

// importJob makes a job: laptop.json describes it, and job.pem is its public key.
func (k *kmsctl) importJob() {
	k.Helper()
	k.ctl("import-job", "create", "laptop")
	k.write("laptop.json", k.ctl("import-job", "describe", "laptop", "-o", "json"))
	var job struct {
		PublicKey []byte `json:"public_key"`
	}
	k.must(json.Unmarshal(k.read("laptop.json"), &job))
	k.write("job.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: job.PublicKey}))
}

// Keys come in by "kmsctl key import --wrapped", as docs/import.md describes, wrapped by
// OpenSSL and by "kmsctl import-job wrap" where there is no service.
func TestKmsctlImportsWrappedKeys(t *testing.T) {
	t.Parallel()
	k := newKmsctl(t)
	k.importJob()
	const algorithm = "EC_SIGN_P256_SHA256"
	k.pair("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
	k.write("by-openssl", k.wrapped("private.der"))
	k.runProgram(k.program, "import-job", "wrap", "laptop.json", "--in", "private.pem", "--algorithm", algorithm, "--out", "by-kmsctl",
		"--client-profile", "missing.yaml") // which a command that connects would want to read
	k.write("message", []byte("message"))
	for _, wrapped := range []string{"by-openssl", "by-kmsctl"} {
		k.ctl("key", "import", wrapped, "--job", "laptop", "--wrapped", wrapped, "--public-key", "key.pem", "--create", "--algorithm", algorithm)
		k.ctl("sign", wrapped, "--in", "message", "--out", "sig", "--force")
		k.run("dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "message")
	}

	k.run("rand", "-out", "secret", "32")
	k.write("wrapped", k.wrapped("secret"))
	k.ctl("key", "import", "webhooks", "--job", "laptop", "--wrapped", "wrapped", "--create", "--algorithm", "HMAC_SHA256")
	want := k.run("dgst", "-sha256", "-mac", "HMAC", "-macopt", fmt.Sprintf("hexkey:%x", k.read("secret")), "-binary", "message")
	if got := k.ctl("mac", "webhooks", "--in", "message"); !bytes.Equal(got, want) {
		t.Errorf("the tag is %x, OpenSSL says %x", got, want)
	}
}
