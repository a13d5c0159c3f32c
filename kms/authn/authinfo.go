package authn

import (
	"fmt"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

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

// PrincipalFromPeer returns the principal of a connection. The error matches
// [kms.ErrUnauthenticated].
func PrincipalFromPeer(p *peer.Peer, now time.Time) (kms.Principal, error) {
	if p == nil {
		return kms.Principal{}, unauthenticated("there is no connection")
	}
	info, ok := p.AuthInfo.(*AuthInfo)
	if !ok || info.Principal.Name == "" {
		return kms.Principal{}, unauthenticated("the connection has no identity")
	}
	if !info.Expires.IsZero() && now.After(info.Expires) {
		return kms.Principal{}, unauthenticated("the client certificate expired at %s",
			info.Expires.UTC().Format(time.RFC3339))
	}
	return info.Principal, nil
}

func unauthenticated(format string, args ...any) error {
	return &kms.Error{Sentinel: kms.ErrUnauthenticated, Message: fmt.Sprintf(format, args...)}
}
