package pkcs11hsm_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// TestDocumentedMechanisms: the line for SoftHSM2's configuration is the one of the code.
func TestDocumentedMechanisms(t *testing.T) {
	text, err := os.ReadFile("../../docs/pkcs11-modules.md")
	if err != nil {
		t.Fatal(err)
	}
	if line := "slots.mechanisms = " + strings.Join(pkcs11hsm.Mechanisms(), ",") + "\n"; !strings.Contains(string(text), line) {
		t.Errorf("docs/pkcs11-modules.md has no line %s", line)
	}
}

// TestMechanisms: a token that offers only what Keyholt uses can do all that it could before.
func TestMechanisms(t *testing.T) {
	soft := softhsmtest.New(t)
	token, err := pkcs11hsm.Open(t.Context(), soft.Config())
	if err != nil {
		t.Fatal(err)
	}
	whole := token.Info()
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(soft.Conf())
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "softhsm2.conf")
	text = append(text, "slots.mechanisms = "+strings.Join(pkcs11hsm.Mechanisms(), ",")+"\n"...)
	if err := os.WriteFile(conf, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	part := soft.Open(t).Info()
	if len(part.Mechanisms) >= len(whole.Mechanisms)/2 || len(part.Mechanisms) < len(pkcs11hsm.Mechanisms())-3 {
		t.Errorf("%d mechanisms of %d: %s", len(part.Mechanisms), len(whole.Mechanisms), part.Mechanisms)
	}
	whole.Mechanisms, part.Mechanisms = nil, nil
	if !reflect.DeepEqual(whole, part) {
		t.Errorf("with fewer mechanisms:\n%+v\nwith all:\n%+v", part, whole)
	}
}
