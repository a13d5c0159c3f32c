package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
)

func TestFindSoftHSM(t *testing.T) {
	t.Setenv(softHSMEnv, "")
	dir := t.TempDir()
	module := filepath.Join(dir, "x86_64-linux-gnu", "libsofthsm2.so")
	if err := os.MkdirAll(filepath.Dir(module), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(module, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "none", "libsofthsm2.so")

	got, err := findSoftHSM([]string{missing, filepath.Join(dir, "*-linux-gnu*", "libsofthsm2.so")})
	if err != nil || got != module {
		t.Errorf("found %q, %v; want %q", got, err, module)
	}

	_, err = findSoftHSM([]string{missing})
	if !errors.Is(err, hsm.ErrModule) {
		t.Fatalf("error %v, want %v", err, hsm.ErrModule)
	}
	for _, part := range []string{"SoftHSM2", "is not installed", "brew install softhsm", softHSMEnv} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}

	t.Setenv(softHSMEnv, module)
	if got, err := findSoftHSM([]string{missing}); err != nil || got != module {
		t.Errorf("%s: found %q, %v; want %q", softHSMEnv, got, err, module)
	}
	t.Setenv(softHSMEnv, missing)
	if _, err := findSoftHSM([]string{module}); !errors.Is(err, hsm.ErrModule) || !strings.Contains(err.Error(), missing) {
		t.Errorf("%s names a file that is not there: error %v", softHSMEnv, err)
	}
}

func TestInstallHint(t *testing.T) {
	for system, want := range map[string]string{
		"linux":  "sudo apt-get install softhsm2",
		"darwin": "Run: brew install softhsm",
	} {
		if got := installHint(system); !strings.Contains(got, want) {
			t.Errorf("%s: %q does not say %q", system, got, want)
		}
	}
}

func TestTokenConfiguration(t *testing.T) {
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := hsmConfig{
		Module: "m", InitArgs: "i", TokenLabel: "l", TokenSerial: "s", PINFile: pin, Sessions: 3, MaxBlockBytes: 64,
		RequireAllowedMechanisms: true,
	}
	got := c.token(nil)
	if got.Module != "m" || got.InitArgs != "i" || got.TokenLabel != "l" || got.TokenSerial != "s" || got.Sessions != 3 ||
		got.MaxBlockBytes != 64 || !got.RequireAllowedMechanisms {
		t.Errorf("%+v became %+v", c, got)
	}
	if text, err := got.PIN(); err != nil || string(text) != "1234" {
		t.Errorf("PIN %q, %v", text, err)
	}
	c.RequireAllowedMechanisms = false
	if c.token(nil).RequireAllowedMechanisms {
		t.Error("hsm.require_allowed_mechanisms has no effect")
	}
}
