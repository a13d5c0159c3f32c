package pkcs11hsm_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// nssPaths are where packages put NSS's software token (package libnss3, nss).
var nssPaths = []string{
	"/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
	"/usr/lib/aarch64-linux-gnu/libsoftokn3.so",
	"/usr/lib64/libsoftokn3.so",
	"/usr/lib/libsoftokn3.so",
	"/opt/homebrew/opt/nss/lib/libsoftokn3.dylib",
	"/usr/local/opt/nss/lib/libsoftokn3.dylib",
}

// nssMutex lets one test at a time use NSS: its database is an argument of
// C_Initialize, so a process has one.
var nssMutex sync.Mutex

// newNSS makes an empty NSS database and holds NSS until the test has ended.
func newNSS(t testing.TB) pkcs11hsm.Config {
	t.Helper()
	module := softhsmtest.RequireFile(t, "NSS's software token (package libnss3)", nssPaths...)
	nssMutex.Lock()
	t.Cleanup(nssMutex.Unlock)
	cfg := pkcs11hsm.Config{
		Module:     module,
		InitArgs:   fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", t.TempDir()),
		TokenLabel: "NSS Certificate DB",
		PIN:        func() ([]byte, error) { return []byte("nss-test-pin"), nil },
		Sessions:   4,
	}
	if err := initNSS(cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// initNSS sets the PIN of a new database, which NSS wants done with an empty
// security officer's PIN.
func initNSS(cfg pkcs11hsm.Config) (err error) {
	ctx := pkcs11.New(cfg.Module)
	args := append([]byte(cfg.InitArgs), 0)
	if err := ctx.Initialize(pkcs11.InitializeWithReserved(unsafe.Pointer(&args[0]))); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ctx.Finalize()) }()
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil || info.Label != cfg.TokenLabel {
			continue
		}
		session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return err
		}
		return errors.Join(ctx.Login(session, pkcs11.CKU_SO, ""), ctx.InitPIN(session, "nss-test-pin"), ctx.Logout(session))
	}
	return errors.New("no slot for the database")
}

func openNSS(t testing.TB, cfg pkcs11hsm.Config) *pkcs11hsm.Token {
	t.Helper()
	token, err := pkcs11hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = token.Close() })
	return token
}

// TestNSSContract runs the contract suite on another module: one that wants
// initialisation arguments and knows no CKA_ALLOWED_MECHANISMS.
func TestNSSContract(t *testing.T) {
	softhsmtest.RequireFile(t, "NSS's software token (package libnss3)", nssPaths...)
	hsmtest.Run(t, func(t testing.TB) hsmtest.Fixture {
		cfg := newNSS(t)
		return hsmtest.Fixture{
			Token:    openNSS(t, cfg),
			Another:  func(t testing.TB) hsm.Token { return openNSS(t, cfg) },
			NoLocal:  true,
			AllSizes: true,
		}
	})
}

// TestNSSLimitations: what NSS cannot do is named, and refused where it is required.
func TestNSSLimitations(t *testing.T) {
	cfg := newNSS(t)
	token := openNSS(t, cfg)
	if token.UsesCrypto11() {
		t.Error("crypto11 cannot have initialised the module")
	}
	info := token.Info()
	if info.AllowedMechs || info.UsageSwitch || !info.SessionKeys {
		t.Errorf("%+v", info)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.RequireAllowedMechanisms = true
	wantOpenError(t, cfg, hsm.ErrUnsupported, "CKA_ALLOWED_MECHANISMS", "hsm.require_allowed_mechanisms")
	var missing *pkcs11hsm.MissingError
	_, err := pkcs11hsm.Open(t.Context(), cfg)
	if !errors.As(err, &missing) || missing.What != "CKA_ALLOWED_MECHANISMS" {
		t.Fatal(err)
	}
}

// TestNSSLoss: the module comes back with its arguments.
func TestNSSLoss(t *testing.T) {
	token := openNSS(t, newNSS(t))
	uid := hsm.UID{1}
	if _, err := token.GenerateKey(t.Context(), uid, "", hsm.AES256Blocks); err != nil {
		t.Fatal(err)
	}
	for name, lose := range map[string]func() error{
		"sessions": func() error { return token.Raw().CloseAllSessions(token.Slot()) },
		"module":   func() error { return token.Raw().Finalize() },
	} {
		if err := lose(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := encrypt(t, token, uid); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
