package pkcs11hsm_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/miekg/pkcs11"
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
	if action == "log in" {
		return logInAgainAndAgain(os.Getenv("KEYHOLT_TEST_MODULE"), os.Getenv("KEYHOLT_TEST_LABEL"), os.Getenv("KEYHOLT_TEST_PIN"))
	}
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

// logInAgainAndAgain does so until standard input ends, with nothing but the module, as fast
// as it goes. It does not mind what it fails at, which is what the others are tested for.
func logInAgainAndAgain(path, label, pin string) error {
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		done <- err
	}()
	ctx := pkcs11.New(path)
	for {
		select {
		case err := <-done:
			return err
		default:
		}
		if err := ctx.Initialize(); err != nil {
			return err
		}
		slots, _ := ctx.GetSlotList(true)
		for _, slot := range slots {
			if info, err := ctx.GetTokenInfo(slot); err != nil || info.Label != label {
				continue
			}
			if session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err == nil {
				_ = ctx.Login(session, pkcs11.CKU_USER, pin)
			}
		}
		if err := ctx.Finalize(); err != nil {
			return err
		}
	}
}

// elsewhere runs an action in another process.
func elsewhere(t *testing.T, token *softhsmtest.Token, action string, uid hsm.UID) {
	t.Helper()
	if out, err := commandElsewhere(t, token, action, uid).CombinedOutput(); err != nil {
		t.Fatalf("%s in another process: %v\n%s", action, err, out)
	}
}

func commandElsewhere(t *testing.T, token *softhsmtest.Token, action string, uid hsm.UID) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(token.Env(), childVariable+"="+action, "KEYHOLT_TEST_MODULE="+token.ModulePath(),
		"KEYHOLT_TEST_LABEL="+token.Label(), "KEYHOLT_TEST_PIN="+token.PIN(), "KEYHOLT_TEST_UID="+uid.String())
	return cmd
}
