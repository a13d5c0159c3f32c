package softhsmtest

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
)

// Token is a throwaway SoftHSM2 token.
type Token struct {
	module  string
	conf    string
	label   string
	serial  string
	pin     string
	pinFile string
}

// New makes an empty token that exists until the test has ended. Without SoftHSM2
// the test is skipped, or fails in CI; see [Require].
func New(t testing.TB) *Token {
	t.Helper()
	return NewVia(t, Require(t))
}

// NewVia is New with another module that stands between us and SoftHSM2, such as one
// that injects faults. All tokens that are in use at a time must be made via the same
// module, because SoftHSM2 beneath is initialised and finalised once for all.
func NewVia(t testing.TB, module string) *Token {
	t.Helper()
	tok := &Token{
		module:  module,
		conf:    useDirectory(t),
		label:   "keyholt-" + randomHex(t, 8),
		pin:     randomHex(t, 8),
		pinFile: filepath.Join(t.TempDir(), "pin"),
	}
	serial, err := pkcs11hsm.InitToken(module, tok.label, []byte(randomHex(t, 8)), []byte(tok.pin))
	if err != nil {
		t.Fatalf("making a SoftHSM2 token: %v", err)
	}
	tok.serial = serial
	if err := os.WriteFile(tok.pinFile, []byte(tok.pin+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return tok
}

func randomHex(t testing.TB, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// ModulePath is the path of the module, SoftHSM2's unless the token was made by NewVia.
func (k *Token) ModulePath() string { return k.module }

// Label is the token's label, unique to it.
func (k *Token) Label() string { return k.label }

// Serial is the token's serial number.
func (k *Token) Serial() string { return k.serial }

// PIN is the user PIN.
func (k *Token) PIN() string { return k.pin }

// PINFile is the path of a file of mode 0600 that holds the user PIN and a newline.
func (k *Token) PINFile() string { return k.pinFile }

// Conf is the path of the configuration file that SOFTHSM2_CONF names.
func (k *Token) Conf() string { return k.conf }

// Env is the environment of this process with SOFTHSM2_CONF set, for a child
// process that is to see the token.
func (k *Token) Env() []string { return append(os.Environ(), confVariable+"="+k.conf) }

// Config opens the token with pkcs11hsm.
func (k *Token) Config() pkcs11hsm.Config {
	return pkcs11hsm.Config{
		Module:                   k.module,
		TokenLabel:               k.label,
		TokenSerial:              k.serial,
		PIN:                      func() ([]byte, error) { return []byte(k.pin), nil },
		RequireAllowedMechanisms: true,
	}
}

// Open opens the token and closes it when the test has ended.
func (k *Token) Open(t testing.TB) *pkcs11hsm.Token {
	t.Helper()
	return k.OpenWith(t, k.Config())
}

// OpenWith opens the token with a changed configuration and closes it when the test
// has ended.
func (k *Token) OpenWith(t testing.TB, cfg pkcs11hsm.Config) *pkcs11hsm.Token {
	t.Helper()
	token, err := pkcs11hsm.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("opening the SoftHSM2 token: %v", err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Errorf("closing the SoftHSM2 token: %v", err)
		}
	})
	return token
}
