package pkcs11hsm

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// TestReturnCodeClasses: what follows from each class holds for each code in it.
func TestReturnCodeClasses(t *testing.T) {
	allowed := map[class][]error{
		classSession:        {hsm.ErrUnavailable},
		classLogin:          {hsm.ErrLoginLost},
		classHandle:         {hsm.ErrUnavailable},
		classGone:           {hsm.ErrUnavailable},
		classForbidden:      {hsm.ErrKeyNotPermitted},
		classRequest:        {hsm.ErrUnsupported},
		classAuthentication: {hsm.ErrAuthentication},
		classUnsupported:    {hsm.ErrUnsupported},
		classPIN:            {hsm.ErrPINIncorrect, hsm.ErrPINLocked},
	}
	seen := make(map[class]bool)
	for rv, row := range codeClasses {
		seen[row.class] = true
		ok := false
		for _, err := range allowed[row.class] {
			ok = ok || errors.Is(row.err, err)
		}
		if !ok {
			t.Errorf("%v is in class %d and gives %v", pkcs11.Error(rv), row.class, row.err)
		}
	}
	for c := range allowed {
		if !seen[c] {
			t.Errorf("no code is in class %d", c)
		}
	}
	// The three that can mean anything, and a vendor's own.
	for _, rv := range []returnCode{
		pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_VENDOR_DEFINED + 5,
	} {
		if e := newCallError("C_X", rv); e.class != classAsk || !errors.Is(e, hsm.ErrUnavailable) {
			t.Errorf("%v is in class %d and gives %v", pkcs11.Error(rv), e.class, e)
		}
	}
}

func TestCallError(t *testing.T) {
	err := fmt.Errorf("outside: %w", newCallError("C_EncryptInit", pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED))
	if !errors.Is(err, hsm.ErrKeyNotPermitted) || errors.Is(err, hsm.ErrUnavailable) {
		t.Fatal("wrong sentinel")
	}
	for _, part := range []string{"C_EncryptInit", "CKR_KEY_FUNCTION_NOT_PERMITTED"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	if c, ok := classOf(err); !ok || c != classForbidden {
		t.Error("class is lost by wrapping")
	}
	if _, ok := classOf(hsm.ErrClosed); ok {
		t.Error("a class of no return code")
	}
	if !isCode(err, pkcs11.CKR_OK, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED) || isCode(err, pkcs11.CKR_OK) {
		t.Error("isCode")
	}
	if wrap("C_X", nil) != nil || check("C_X", ckrOK) != nil {
		t.Error("success is no error")
	}
	if err := wrap("C_X", errors.New("text only")); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("an error without a code gives %v", err)
	}
}
