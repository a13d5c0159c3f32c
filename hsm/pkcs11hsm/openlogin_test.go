package pkcs11hsm_test

import (
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// countLow is the command to the proxy that has the token say that it counts wrong PINs.
const countLow = "flags 0x10000"

// countingPIN changes a configuration to count how often the PIN was asked for, which is once
// before each login.
func countingPIN(cfg *pkcs11hsm.Config) (logins *int) {
	pin := cfg.PIN
	logins = new(int)
	cfg.PIN = func() ([]byte, error) { *logins++; return pin() }
	return logins
}

// TestLoginTriedOnce: a return code of a login that may be a device's word for a wrong PIN is
// not followed by another login.
func TestLoginTriedOnce(t *testing.T) {
	soft := softhsmtest.NewVia(t, buildProxy(t))
	for code, want := range map[string]error{
		"0x6":        hsm.ErrUnavailable,  // CKR_FUNCTION_FAILED
		"0x30":       hsm.ErrUnavailable,  // CKR_DEVICE_ERROR
		"0x80000123": hsm.ErrUnavailable,  // a vendor's own
		"0x7":        hsm.ErrUnsupported,  // CKR_ARGUMENTS_BAD
		"0xa0":       hsm.ErrPINIncorrect, // CKR_PIN_INCORRECT
		"0xa3":       hsm.ErrPINIncorrect, // CKR_PIN_EXPIRED
		"0x103":      hsm.ErrPINIncorrect, // CKR_USER_TYPE_INVALID
		"0xa4":       hsm.ErrPINLocked,    // CKR_PIN_LOCKED
	} {
		t.Setenv("KEYHOLT_PROXY", "fail "+fnLogin+" 1000 "+code)
		cfg := soft.Config()
		logins := countingPIN(&cfg)
		wantOpenError(t, cfg, want, "C_Login")
		if *logins != 1 {
			t.Errorf("%s: %d logins", code, *logins)
		}
	}
}

// TestLoginCountedAtOnce: what a login returned is a wrong PIN if the token counts it as one, so
// that who starts the process does not start it again.
func TestLoginCountedAtOnce(t *testing.T) {
	soft := softhsmtest.NewVia(t, buildProxy(t))
	for _, code := range []string{"0x5", "0x6", "0x80000123"} {
		t.Setenv("KEYHOLT_PROXY", "fail "+fnLogin+" 1000 "+code+"\n"+countLow)
		cfg := soft.Config()
		logins := countingPIN(&cfg)
		wantOpenError(t, cfg, hsm.ErrPINIncorrect, "C_Login", "counts")
		if *logins != 1 {
			t.Errorf("%s: %d logins", code, *logins)
		}
	}
}

// TestLoginCountedMeanwhile: what the token counts is remembered, whatever the attempts
// in between met.
func TestLoginCountedMeanwhile(t *testing.T) {
	soft := softhsmtest.NewVia(t, buildProxy(t))
	cfg := soft.Config()
	logins := countingPIN(&cfg)
	next := []string{"fail " + fnGetTokenInfo + " 1000 0x5", countLow}
	cfg.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) { // between two attempts
		if len(next) > 0 {
			if err := os.Setenv("KEYHOLT_PROXY", next[0]); err != nil { //nolint:usetesting // t.Setenv has set it before
				t.Error(err)
			}
			next = next[1:]
		}
		return len(p), nil
	}), nil))
	t.Setenv("KEYHOLT_PROXY", "fail "+fnLogin+" 1 0x5")
	wantOpenError(t, cfg, hsm.ErrPINIncorrect, "C_Login", "counts")
	if *logins != 1 || len(next) > 0 {
		t.Fatalf("%d logins, %q not said", *logins, next)
	}
}

// TestLoginCountedWhileOpen: a login that was lost and fails is not tried by each call,
// if the token counts it as a wrong PIN; and again as soon as it does not.
func TestLoginCountedWhileOpen(t *testing.T) {
	soft := softhsmtest.NewVia(t, buildProxy(t))
	cfg := soft.Config()
	logins := countingPIN(&cfg)
	r := newRigOn(t, soft, func(c *pkcs11hsm.Config) { c.PIN = cfg.PIN })
	logOut := func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) error { return ctx.Logout(s) }
	*logins = 0
	r.tell("fail "+fnLogin+" 1000 0x6", countLow)
	withRaw(t, r.token, logOut)
	for range 20 {
		if err := encrypt(t, r.token, r.blocks); err == nil {
			t.Fatal("it works without a login")
		}
	}
	if *logins != 1 {
		t.Errorf("%d logins", *logins)
	}
	if err := encrypt(t, r.token, r.blocks); !errors.Is(err, hsm.ErrLoginLost) {
		t.Errorf("got %v", err)
	}
	r.tell("reset", "flags 0")
	if err := encrypt(t, r.token, r.blocks); err != nil {
		t.Errorf("after it counts no more: %v", err)
	}
}

// TestFailedOpensLeaveNothing: wherever an attempt fails, what it opened is closed: beside
// another Token no session stays, and alone the module is finalised.
func TestFailedOpensLeaveNothing(t *testing.T) {
	soft := softhsmtest.NewVia(t, buildProxy(t))
	failures := map[string]struct {
		command string
		want    error
	}{
		"login":        {"fail " + fnLogin + " 1 0xa0", hsm.ErrPINIncorrect},
		"open session": {"fail " + fnOpenSession + " 1000 0x5", nil},
		"token info":   {"fail " + fnGetTokenInfo + " 1000 0x5", hsm.ErrTokenNotFound},
		"probe":        {"hide 0x1081", hsm.ErrUnsupported},
		"gone":         {"gone", hsm.ErrTokenNotFound},
	}
	fail := func(name, command string, want error) {
		token, err := pkcs11hsm.Open(t.Context(), soft.Config())
		if err == nil {
			_ = token.Close()
		}
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s (%s): %v", name, command, err)
		}
	}
	raw := pkcs11.New(soft.ModulePath())
	for name, f := range failures {
		t.Setenv("KEYHOLT_PROXY", f.command)
		fail(name, f.command, f.want)
		if _, err := raw.GetInfo(); !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
			t.Errorf("%s: the module is not finalised: %v", name, err)
		}
	}
	t.Setenv("KEYHOLT_PROXY", "")
	r := newRigOn(t, soft, func(c *pkcs11hsm.Config) { c.Sessions = 2 })
	sessions := func() uint {
		info, err := r.token.Raw().GetTokenInfo(r.token.Slot())
		if err != nil {
			t.Fatal(err)
		}
		return info.SessionCount
	}
	s, err := r.token.Raw().OpenSession(r.token.Slot(), pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	tell := func(command string) {
		if err := r.token.Raw().SeedRandom(s, []byte(command)); err != nil {
			t.Fatal(err)
		}
	}
	before := sessions()
	for name, f := range failures {
		if name == "gone" {
			continue // with the token that is open
		}
		tell(f.command)
		fail(name, f.command, f.want)
		tell("reset")
		if after := sessions(); after != before {
			t.Errorf("%s: %d sessions, %d before", name, after, before)
		}
		if err := encrypt(t, r.token, r.blocks); err != nil {
			t.Errorf("%s beside an open token: %v", name, err)
		}
	}
	if err := soft.Open(t).Check(t.Context()); err != nil {
		t.Error(err)
	}
}
