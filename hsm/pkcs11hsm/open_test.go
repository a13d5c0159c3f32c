package pkcs11hsm_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// wantOpenError opens with a configuration that must be refused.
func wantOpenError(t *testing.T, cfg pkcs11hsm.Config, want error, parts ...string) {
	t.Helper()
	token, err := pkcs11hsm.Open(t.Context(), cfg)
	if err == nil {
		_ = token.Close()
	}
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %q", err, part)
		}
	}
}

// TestWrongPIN: one attempt, a clear error, and the token is not locked.
func TestWrongPIN(t *testing.T) {
	soft := softhsmtest.New(t)
	cfg := soft.Config()
	asked := 0
	var given []byte
	cfg.PIN = func() ([]byte, error) {
		asked++
		given = []byte("this is not it")
		return given, nil
	}
	wantOpenError(t, cfg, hsm.ErrPINIncorrect, "C_Login")
	if asked != 1 {
		t.Fatalf("the PIN was asked for %d times", asked)
	}
	if strings.Trim(string(given), "\x00") != "" {
		t.Fatal("the PIN was not wiped")
	}
	token := soft.Open(t)
	info, err := token.Raw().GetTokenInfo(token.Slot())
	if err != nil {
		t.Fatal(err)
	}
	if info.Flags&(pkcs11.CKF_USER_PIN_LOCKED|pkcs11.CKF_USER_PIN_FINAL_TRY) != 0 {
		t.Fatalf("flags %#x", info.Flags)
	}
	if err := token.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPINIsWipedAndNotLogged(t *testing.T) {
	soft := softhsmtest.New(t)
	cfg := soft.Config()
	var given []byte
	cfg.PIN = func() ([]byte, error) {
		given = []byte(soft.PIN())
		return given, nil
	}
	var log strings.Builder
	cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	token := soft.OpenWith(t, cfg)
	if len(given) == 0 || strings.Trim(string(given), "\x00") != "" {
		t.Fatal("the PIN was not wiped")
	}
	session, err := token.Raw().OpenSession(token.Slot(), pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := token.Raw().Logout(session); err != nil {
		t.Fatal(err)
	}
	if err := token.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "login") || strings.Contains(log.String(), soft.PIN()) {
		t.Fatalf("log:\n%s", log.String())
	}
}

func TestOpenRefuses(t *testing.T) {
	soft := softhsmtest.New(t)
	with := func(change func(*pkcs11hsm.Config)) pkcs11hsm.Config {
		cfg := soft.Config()
		change(&cfg)
		return cfg
	}
	t.Run("MissingModule", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "no-such-module.so")
		wantOpenError(t, with(func(c *pkcs11hsm.Config) { c.Module = path }), hsm.ErrModule, path, "no such file")
		wantOpenError(t, with(func(c *pkcs11hsm.Config) { c.Module = "" }), hsm.ErrModule)
	})
	t.Run("NoModule", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "text.so")
		if err := os.WriteFile(path, []byte("this is no shared library"), 0o600); err != nil {
			t.Fatal(err)
		}
		wantOpenError(t, with(func(c *pkcs11hsm.Config) { c.Module = path }), hsm.ErrModule, path)
	})
	t.Run("MissingToken", func(t *testing.T) {
		// What exists is listed, by label and serial number.
		wantOpenError(t, with(func(c *pkcs11hsm.Config) { c.TokenLabel, c.TokenSerial = "nobody", "" }),
			hsm.ErrTokenNotFound, "nobody", soft.Label(), soft.Serial())
		wantOpenError(t, with(func(c *pkcs11hsm.Config) { c.TokenSerial = "0000" }),
			hsm.ErrTokenNotFound, "0000", soft.Label(), soft.Serial())
		// Both are given, and no token has both.
		other := softhsmtest.New(t)
		wantOpenError(t, with(func(c *pkcs11hsm.Config) { c.TokenSerial = other.Serial() }), hsm.ErrTokenNotFound)
	})
	t.Run("Configuration", func(t *testing.T) {
		for name, change := range map[string]func(*pkcs11hsm.Config){
			"no token":       func(c *pkcs11hsm.Config) { c.TokenLabel, c.TokenSerial = "", "" },
			"no PIN":         func(c *pkcs11hsm.Config) { c.PIN = nil },
			"sessions":       func(c *pkcs11hsm.Config) { c.Sessions = -1 },
			"short blocks":   func(c *pkcs11hsm.Config) { c.MaxBlockBytes = 16 },
			"uneven blocks":  func(c *pkcs11hsm.Config) { c.MaxBlockBytes = 1000 },
			"unreadable PIN": func(c *pkcs11hsm.Config) { c.PIN = func() ([]byte, error) { return nil, os.ErrPermission } },
		} {
			t.Run(name, func(t *testing.T) { wantOpenError(t, with(change), hsm.ErrArgument) })
		}
	})
	t.Run("InitArgsDiffer", func(t *testing.T) {
		soft.Open(t)
		wantOpenError(t, with(func(c *pkcs11hsm.Config) { c.InitArgs = "configdir=x" }), hsm.ErrModule)
	})
	t.Run("Context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := pkcs11hsm.Open(ctx, soft.Config()); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
	// None of this has harmed the token.
	if err := soft.Open(t).Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestSymbolicLink: one module under two names is one module.
func TestSymbolicLink(t *testing.T) {
	soft := softhsmtest.New(t)
	link := filepath.Join(t.TempDir(), "module.so")
	if err := os.Symlink(soft.ModulePath(), link); err != nil {
		t.Fatal(err)
	}
	cfg := soft.Config()
	cfg.Module = link
	a, b := soft.Open(t), soft.OpenWith(t, cfg)
	if a.Info().Module != b.Info().Module {
		t.Fatalf("%s and %s", a.Info().Module, b.Info().Module)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Fatalf("after closing the other: %v", err)
	}
}

func TestSoftHSMInfo(t *testing.T) {
	soft := softhsmtest.New(t)
	info := soft.Open(t).Info()
	if info.Label != soft.Label() || info.Serial != soft.Serial() || !strings.Contains(info.Library, "PKCS11") {
		t.Errorf("%+v", info)
	}
	if !info.UsageSwitch || !info.AllowedMechs || !info.SessionKeys || info.TokenNonces {
		t.Errorf("%+v", info)
	}
	if !info.Supports(hsm.AES256Blocks) || !info.Supports(hsm.AES256GCM) || len(info.Limitations) != 0 {
		t.Errorf("%+v", info)
	}
}

func TestInitToken(t *testing.T) {
	soft := softhsmtest.New(t)
	for _, label := range []string{"", strings.Repeat("x", 33), soft.Label()} {
		if _, err := pkcs11hsm.InitToken(soft.ModulePath(), label, []byte("12345678"), []byte("12345678")); !errors.Is(err, hsm.ErrArgument) {
			t.Errorf("label %q: %v", label, err)
		}
	}
	if _, err := pkcs11hsm.InitToken("/nonexistent", "label", nil, nil); !errors.Is(err, hsm.ErrModule) {
		t.Error(err)
	}
	// Before and while another token is open.
	open := soft.Open(t)
	serial, err := pkcs11hsm.InitToken(soft.ModulePath(), "made while open", []byte("12345678"), []byte("87654321"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := soft.Config()
	cfg.TokenLabel, cfg.TokenSerial = "made while open", serial
	cfg.PIN = func() ([]byte, error) { return []byte("87654321"), nil }
	second := soft.OpenWith(t, cfg)
	for _, token := range []hsm.Token{open, second} {
		if err := token.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
