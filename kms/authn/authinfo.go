package authn

import (
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/keyholt/keyholt/kms"
)

// AuthInfo is what the handshake of a connection established. It is the same value for
// all requests of the connection.
type AuthInfo struct {
	credentials.CommonAuthInfo

	Principal kms.Principal
	// Expires is when the proof of identity ends, for a certificate; zero: never. A
	// connection may outlive it, a request may not.
	Expires time.Time
	// PID is the peer's process id when it connected, for the log; unix sockets only.
	PID int32
}

// AuthType names the authentication in the words of gRPC.
func (*AuthInfo) AuthType() string { return "keyholt" }

// Identity returns the principal of the connection, while the proof of it holds. The
// error matches [kms.ErrUnauthenticated].
func (i *AuthInfo) Identity(now time.Time) (kms.Principal, error) {
	if i.Principal.Name == "" {
		return kms.Principal{}, &kms.Error{
			Sentinel: kms.ErrUnauthenticated, Message: "the connection has no identity",
		}
	}
	if !i.Expires.IsZero() && now.After(i.Expires) {
		return kms.Principal{}, &kms.Error{
			Sentinel: kms.ErrUnauthenticated,
			Message:  "the client certificate expired at " + i.Expires.UTC().Format(time.RFC3339),
		}
	}
	return i.Principal, nil
}
