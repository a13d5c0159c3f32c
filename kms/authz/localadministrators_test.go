package authz

import (
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func TestLocalAdministrators(t *testing.T) {
	rules := LocalAdministrators{UID: 1000, Names: []string{"x509:CN=admin", "unix:1001", ""}}
	tests := []struct {
		name      string
		principal kms.Principal
		allowed   bool
	}{
		{"root", kms.Principal{Name: "unix:0", Method: kms.MethodUnix}, true},
		{"own user", kms.Principal{Name: "unix:1000", Method: kms.MethodUnix, UID: 1000}, true},
		{"another user, though listed", kms.Principal{Name: "unix:1001", Method: kms.MethodUnix, UID: 1001}, false},
		{"listed certificate", kms.Principal{Name: "x509:CN=admin", Method: kms.MethodTLS}, true},
		{"another certificate", kms.Principal{Name: "x509:CN=admin,O=Other", Method: kms.MethodTLS}, false},
		{"certificate named as a user", kms.Principal{Name: "unix:0", Method: kms.MethodTLS}, false},
		{"nobody", kms.Principal{}, false},
		{"nobody over a socket", kms.Principal{Method: kms.MethodUnix}, false},
		{"no method", kms.Principal{Name: "x509:CN=admin", UID: 1000}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := rules.Authorize(t.Context(), &kms.Question{Principal: test.principal, Action: kms.ActionDecrypt})
			if d.Allowed != test.allowed || d.Why == "" {
				t.Errorf("%+v, want allowed %v, with a reason", d, test.allowed)
			}
		})
	}
	own := kms.Question{Principal: kms.Principal{Name: "unix:1000", Method: kms.MethodUnix, UID: 1000}}
	if (LocalAdministrators{}).Authorize(t.Context(), &own).Allowed {
		t.Error("the zero value allows somebody who is not root")
	}
}
