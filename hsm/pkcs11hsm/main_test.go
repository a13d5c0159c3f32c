package pkcs11hsm_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// childVariable makes the test binary act on a token as another process would, and
// exit: its value is the action.
const childVariable = "KEYHOLT_TEST_CHILD"

func TestMain(m *testing.M) {
	if action := os.Getenv(childVariable); action != "" {
		if err := act(action); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // this is main, of the child process
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// act runs in the child process.
func act(action string) error {
	ctx := context.Background()
	token, err := pkcs11hsm.Open(ctx, pkcs11hsm.Config{
		Module:     os.Getenv("KEYHOLT_TEST_MODULE"),
		TokenLabel: os.Getenv("KEYHOLT_TEST_LABEL"),
		PIN:        func() ([]byte, error) { return []byte(os.Getenv("KEYHOLT_TEST_PIN")), nil },
	})
	if err != nil {
		return err
	}
	defer func() { _ = token.Close() }()
	var uid hsm.UID
	if _, err := hex.Decode(uid[:], []byte(os.Getenv("KEYHOLT_TEST_UID"))); err != nil {
		return err
	}
	switch action {
	case "generate":
		_, err := token.GenerateKey(ctx, uid, "child", hsm.AES256Blocks)
		return err
	case "off":
		return token.SetUsable(ctx, uid, false)
	case "on":
		return token.SetUsable(ctx, uid, true)
	case "destroy":
		return token.DestroyKey(ctx, uid)
	default:
		return fmt.Errorf("no action %q", action)
	}
}

// elsewhere runs an action in another process.
func elsewhere(t *testing.T, token *softhsmtest.Token, action string, uid hsm.UID) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(token.Env(), childVariable+"="+action, "KEYHOLT_TEST_MODULE="+token.ModulePath(),
		"KEYHOLT_TEST_LABEL="+token.Label(), "KEYHOLT_TEST_PIN="+token.PIN(), "KEYHOLT_TEST_UID="+uid.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s in another process: %v\n%s", action, err, out)
	}
}
