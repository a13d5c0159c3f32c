package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/keyholt/keyholt/kms/client"
)

// probeTimeout bounds one attempt to reach the service.
const probeTimeout = 5 * time.Second

// probe connects to the service without gRPC, so that the errors of the network and of
// TLS arrive as they are. For a unix socket the state is nil.
func probe(ctx context.Context, p client.Profile) (*tls.ConnectionState, error) {
	network, address := p.Endpoint()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // nothing was sent that could be lost
	if p.IsUnix() {
		return nil, nil //nolint:nilnil // a connection without TLS has no state
	}
	config, err := p.TLSConfig()
	if err != nil {
		return nil, err
	}
	config.NextProtos = []string{"h2"}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	// In TLS 1.3 the client is done before the server has looked at the client's
	// certificate. An HTTP/2 server speaks first, so what arrives now is its settings or
	// its refusal.
	if _, err := secure.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	state := secure.ConnectionState()
	return &state, nil
}

// probeAll probes each address of a profile, and returns the one that cannot be reached
// with the error; nil if all can.
func probeAll(ctx context.Context, p client.Profile) (client.Profile, error) {
	for _, one := range p.Each() {
		if _, err := probe(ctx, one); err != nil {
			return one, err
		}
	}
	return p, nil
}

// startHint is what to do when nobody answers.
const startHint = `is kmsd running? Start one with "kmsd dev", or set ` + profileVariable +
	` to the profile of the service that is meant.`

// explainProbe says what an error of probe means.
func explainProbe(p client.Profile, err error) explanation {
	_, address := p.Endpoint()
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		operation *net.OpError
		record    tls.RecordHeaderError
		malformed *net.AddrError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return explanation{cause: fmt.Sprintf("nobody listens at %s (connection refused)", address), next: startHint}
	case errors.Is(err, fs.ErrNotExist):
		return explanation{cause: fmt.Sprintf("there is no socket %s", address), next: startHint}
	case errors.Is(err, fs.ErrPermission):
		return explanation{
			cause: fmt.Sprintf("no permission to use the socket %s", address),
			next:  "run kmsctl as the user that kmsd runs as, or as root.",
		}
	case errors.As(err, &dns):
		return explanation{
			cause: fmt.Sprintf("the name of %s is not known to the resolver: %v", address, dns.Err),
			next:  "check the address in the profile or --address.",
		}
	case errors.As(err, &authority):
		return explanation{
			cause: fmt.Sprintf("the certificate of %s is signed by an authority that is not trusted: %v", address, err),
			next:  "check ca_file in the profile, or --ca-file.",
		}
	case errors.As(err, &hostname):
		return explanation{
			cause: fmt.Sprintf("the certificate of %s is for another name: %v", address, err),
			next:  "use the name in the certificate, or check server_name in the profile.",
		}
	case errors.As(err, &invalid):
		return explanation{
			cause: fmt.Sprintf("the certificate of %s is not valid: %v", address, err),
			next:  "have the server's certificate renewed, and check this machine's clock.",
		}
	case errors.As(err, &operation) && operation.Op == "remote error": // how crypto/tls reports the peer's alert
		return explanation{
			cause: fmt.Sprintf("%s refused the TLS connection: %v", address, operation.Err),
			next: "check cert_file and key_file in the profile: the certificate must be valid, and signed by an " +
				"authority that the service trusts for its clients.",
		}
	case errors.As(err, &record):
		return explanation{
			cause: fmt.Sprintf("%s does not speak TLS", address),
			next:  "check the port in the address.",
		}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return explanation{
			cause: fmt.Sprintf("%s does not answer", address),
			next:  "check the address, and that no firewall stands between.",
		}
	case errors.As(err, &malformed):
		return explanation{
			cause: fmt.Sprintf("%s is no address: %v", address, malformed.Err),
			next:  "check the address in the profile or --address.",
		}
	default:
		return explanation{cause: fmt.Sprintf("cannot reach %s: %v", address, err), next: startHint}
	}
}
