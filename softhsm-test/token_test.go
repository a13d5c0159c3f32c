package softhsmtest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// TestTokensInParallel opens several tokens of one process at once: each holds its
// own keys, and closing one leaves the others at work.
func TestTokensInParallel(t *testing.T) {
	for _, name := range []string{"a", "b", "c", "d"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			token := softhsmtest.New(t).Open(t)
			uid := hsm.UID{1}
			if _, err := token.GenerateKey(t.Context(), uid, name, hsm.AES256Blocks); err != nil {
				t.Fatal(err)
			}
			keys, err := token.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(keys) != 1 || keys[0].Label != name {
				t.Fatalf("the token holds %+v", keys)
			}
			for range 20 {
				if err := token.EncryptBlocks(t.Context(), uid, make([]byte, 64), make([]byte, 64)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestChildProcessSeesToken lists the token with OpenSC's tool, in a process that
// knows nothing but the environment.
func TestChildProcessSeesToken(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	tool := softhsmtest.RequireFile(t, "pkcs11-tool (package opensc)", "/usr/bin/pkcs11-tool", "/opt/homebrew/bin/pkcs11-tool")
	cmd := exec.Command(tool, "--module", token.ModulePath(), "--list-token-slots")
	cmd.Env = token.Env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), token.Label()) || !strings.Contains(string(out), token.Serial()) {
		t.Fatalf("token %s (%s) is not in\n%s", token.Label(), token.Serial(), out)
	}
}

func TestPINFile(t *testing.T) {
	t.Parallel()
	token := softhsmtest.New(t)
	content, err := os.ReadFile(token.PINFile())
	if err != nil {
		t.Fatal(err)
	}
	if string(content) != token.PIN()+"\n" {
		t.Fatal("the file does not hold the PIN")
	}
	info, err := os.Stat(token.PINFile())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v", info.Mode())
	}
}
