package pkcs11hsm_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// passing are commands to the proxy after which one attempt to open a token fails, and the
// next, in a module begun anew, does not.
var passing = map[string]string{
	"token without information": "fail " + fnGetTokenInfo + " 1 0x5",
	"login: general error":      "fail " + fnLogin + " 1 0x5",
	"login: no PIN yet":         "fail " + fnLogin + " 1 0x102",
}

// TestOpenAgain: what another process's login in the same directory does to who opens the
// token at that moment passes. The proxy does it once, so what it does is not seen after.
func TestOpenAgain(t *testing.T) {
	for name, command := range passing {
		t.Run(name, func(t *testing.T) {
			soft := softhsmtest.NewVia(t, buildProxy(t))
			t.Setenv("KEYHOLT_PROXY", "once "+command)
			var log strings.Builder
			cfg := soft.Config()
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			if err := soft.OpenWith(t, cfg).Check(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(log.String(), "tried again"); n != 1 {
				t.Fatalf("tried again %d times:\n%s", n, &log)
			}
		})
	}
}

// TestOpenAgainInVain: it is not tried for ever, not after the caller has gone, no more than
// twice after a failure that may be the PIN, and not where the token counts it as a wrong PIN.
func TestOpenAgainInVain(t *testing.T) {
	soft := softhsmtest.NewVia(t, buildProxy(t))
	for name, test := range map[string]struct {
		commands string
		logins   int
	}{
		"unclear": {"fail " + fnLogin + " 9 0x5", 2},
		"counted": {"fail " + fnLogin + " 9 0x5\n" + countLow, 1},
		"wrong":   {"fail " + fnLogin + " 9 0xa0", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KEYHOLT_PROXY", test.commands)
			logins := 0
			cfg := soft.Config()
			cfg.PIN = func() ([]byte, error) { logins++; return []byte(soft.PIN()), nil }
			if _, err := pkcs11hsm.Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "C_Login") {
				t.Fatal(err)
			}
			if logins != test.logins {
				t.Fatalf("%d logins, want %d", logins, test.logins)
			}
		})
	}
	t.Run("gone", func(t *testing.T) {
		t.Setenv("KEYHOLT_PROXY", "fail "+fnGetTokenInfo+" 1000 0x5")
		wantOpenError(t, soft.Config(), hsm.ErrTokenNotFound)
		ctx, cancel := context.WithCancel(t.Context())
		cfg := soft.Config()
		tries := 0
		cfg.Logger = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			tries++
			cancel()
			return len(p), nil
		}), nil))
		if _, err := pkcs11hsm.Open(ctx, cfg); !errors.Is(err, hsm.ErrTokenNotFound) || tries != 1 {
			t.Fatalf("%d tries, %v", tries, err)
		}
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// othersLogIn makes a token, on a disk, where SoftHSM2 takes longer to fill the file that it
// has emptied, and lets another process log in to it without a pause while f runs.
func othersLogIn(t *testing.T, f func(soft *softhsmtest.Token)) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	soft := softhsmtest.New(t)
	other := commandElsewhere(t, soft, "log in", hsm.UID{})
	input, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(input.Close(), other.Wait()); err != nil {
			t.Error(err)
		}
	}()
	f(soft)
}

// TestOpenWhileOthersLogIn: a token opens each time.
func TestOpenWhileOthersLogIn(t *testing.T) {
	othersLogIn(t, func(soft *softhsmtest.Token) {
		for i := range 20 {
			token, err := pkcs11hsm.Open(t.Context(), soft.Config())
			if err != nil {
				t.Errorf("opening number %d: %v", i, err)
				continue
			}
			if err := token.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestUseWhileOthersLogIn: what an open token is used for does not fail.
func TestUseWhileOthersLogIn(t *testing.T) {
	othersLogIn(t, func(soft *softhsmtest.Token) {
		var log strings.Builder
		r := newRigOn(t, soft, func(c *pkcs11hsm.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		log.Reset() // of what opening it says
		for range 2000 {
			if err := encrypt(t, r.token, r.blocks); err != nil {
				t.Fatal(err)
			}
		}
		if log.Len() > 0 {
			t.Fatalf("it noticed:\n%s", &log)
		}
	})
}

// TestPresentAfterAll: a token that does not know how it is, three times in a row, is not
// taken for lost.
func TestPresentAfterAll(t *testing.T) {
	var log strings.Builder
	r := newRigOn(t, softhsmtest.NewVia(t, buildProxy(t)), func(c *pkcs11hsm.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	log.Reset()
	for name, ask := range map[string]func() error{
		"Check": func() error { return r.token.Check(t.Context()) },
		"Key": func() error {
			if _, err := r.token.Key(t.Context(), hsm.UID{0xff}); !errors.Is(err, hsm.ErrKeyNotFound) {
				return err
			}
			return nil
		},
	} {
		r.tell("fail " + fnGetTokenInfo + " 3 0x5")
		if err := ask(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("it noticed:\n%s", &log)
	}
}
