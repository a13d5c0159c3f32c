package authn

import (
	"context"
	"crypto/tls"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
)

// ErrHandshake is the sentinel of refused connections.
var ErrHandshake = errors.New("connection refused")

// ServerCredentials returns the transport credentials of a server that listens on unix
// sockets and, if tlsConfig is not nil, on TCP: the peer of a unix socket is taken for
// the user its kernel says it is, all others need TLS and a client certificate, as
// tlsConfig demands (see [ServerTLS]).
//
// A client of a unix socket connects without credentials of its own.
func ServerCredentials(tlsConfig *tls.Config) credentials.TransportCredentials {
	c := &serverCredentials{}
	if tlsConfig != nil {
		c.tls = credentials.NewTLS(tlsConfig)
	}
	return c
}

type serverCredentials struct {
	tls credentials.TransportCredentials // nil: unix sockets only
}

// ServerHandshake identifies the peer, or closes the connection.
func (c *serverCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.identify(raw)
	if err != nil {
		_ = raw.Close() // it is useless already
		return nil, nil, err
	}
	return conn, info, nil
}

func (c *serverCredentials) identify(raw net.Conn) (net.Conn, *AuthInfo, error) {
	if unix, ok := raw.(*net.UnixConn); ok {
		info, err := unixIdentity(unix)
		return raw, info, err
	}
	if c.tls == nil {
		return nil, nil, errors.Join(ErrHandshake, errors.New("only unix sockets are served"))
	}
	conn, info, err := c.tls.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	tlsInfo, ok := info.(credentials.TLSInfo)
	if !ok {
		return nil, nil, errors.Join(ErrHandshake, errors.New("the handshake was not TLS"))
	}
	identity, err := tlsIdentity(tlsInfo, raw.RemoteAddr())
	return conn, identity, err
}

// ClientHandshake refuses: these credentials are a server's.
func (c *serverCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.Join(ErrHandshake, errors.New("server credentials cannot be used by a client"))
}

// Info describes the protocol.
func (c *serverCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "keyholt"}
}

// Clone returns credentials that share nothing that changes.
func (c *serverCredentials) Clone() credentials.TransportCredentials {
	clone := &serverCredentials{}
	if c.tls != nil {
		clone.tls = c.tls.Clone()
	}
	return clone
}

// OverrideServerName does nothing: it is for clients. The interface wants it.
func (c *serverCredentials) OverrideServerName(string) error { return nil }
