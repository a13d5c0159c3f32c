// Package authz decides what a principal may do. It knows who somebody is from package
// authn's word alone, and remembers nothing between questions.
package authz

import (
	"context"
	"slices"

	"github.com/keyholt/keyholt/kms"
)

// LocalAdministrators lets the administrators of the machine, and of the service, do
// everything, and nobody else anything. The zero value trusts root's unix sockets alone.
type LocalAdministrators struct {
	// UID is the user that the service runs as: its unix peers are administrators, as
	// are root's.
	UID uint32
	// Names are the principals of client certificates that are administrators, as
	// "x509:CN=admin".
	Names []string
}

// Authorize implements [kms.Authorizer].
func (a LocalAdministrators) Authorize(_ context.Context, q *kms.Question) kms.Decision {
	p := &q.Principal
	switch {
	case p.Name == "":
		return kms.Decision{Why: "nobody"}
	case p.Method == kms.MethodUnix && p.UID == 0:
		return kms.Decision{Allowed: true, Why: "root on this machine"}
	case p.Method == kms.MethodUnix && p.UID == a.UID:
		return kms.Decision{Allowed: true, Why: "the service's own user on this machine"}
	case p.Method == kms.MethodTLS && slices.Contains(a.Names, p.Name):
		return kms.Decision{Allowed: true, Why: "in the list of administrators"}
	default:
		return kms.Decision{Why: "not an administrator"}
	}
}
