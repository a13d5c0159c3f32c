package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // client-side health checking, for addresses with several servers
	"google.golang.org/grpc/keepalive"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

const (
	// DefaultTimeout is the deadline of a call whose context has none.
	DefaultTimeout = 30 * time.Second
	// MaxMessageSize is the most bytes of one response.
	MaxMessageSize = 4 << 20

	// A connection that carries a call is probed after so much silence, and given up
	// after so much more. gRPC raises the first to 10 s if it is shorter; a server
	// must allow it.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second

	// How much of answers may be under way, in bytes; see the server's.
	streamWindow     = 1 << 20
	connectionWindow = 4 << 20
)

// Client is a connection to the service.
type Client struct {
	conn    *grpc.ClientConn
	profile Profile
	keys    kmsv1.KeyServiceClient
	crypto  kmsv1.CryptoServiceClient
	imports kmsv1.ImportServiceClient
	system  kmsv1.SystemServiceClient
	queues  *queues
	signing *signQueues
	caches  keyCaches
	end     context.CancelFunc // of the RPCs that carry several callers' calls
}

// Option changes how [Dial] makes a client.
type Option func(*options)

type options struct {
	timeout  time.Duration
	batching Batching
	dial     []grpc.DialOption
}

// WithTimeout sets the deadline of calls whose context has none; 0 means no deadline.
// The default is [DefaultTimeout].
func WithTimeout(d time.Duration) Option {
	return func(o *options) { o.timeout = d }
}

// WithDialOptions adds gRPC options, such as interceptors or a dialer. They come after
// the client's own and may replace them.
func WithDialOptions(opts ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, opts...) }
}

// Dial makes a client from a profile. It reads the credential files, so that what is
// wrong with them shows at once, but connects only when the first call is made: an
// unreachable service is that call's error. TCP is TLS 1.3 with the profile's client
// certificate.
//
// Calls that may be repeated safely are, up to four times within about a second, when
// the service is unavailable: each time by another replica, if there are several. Of
// several addresses, of the profile or of the name of a dns target, calls go in turn to
// those whose health service says that they are serving.
func Dial(ctx context.Context, p Profile, opts ...Option) (*Client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o := options{timeout: DefaultTimeout}
	for _, opt := range opts {
		opt(&o)
	}
	var err error
	if o.batching, err = o.batching.withDefaults(); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	creds, err := p.transportCredentials()
	if err != nil {
		return nil, err
	}
	dial := append([]grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultServiceConfig(p.serviceConfig()),
		grpc.WithDisableServiceConfig(), // one from DNS could turn the retries off
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessageSize),
			grpc.MaxCallSendMsgSize(2*MaxMessageSize), // a request too long is refused by the service, with its reason
			grpc.WaitForReady(false),
		),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connectionWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithChainUnaryInterceptor(withDeadline(o.timeout), withRequestID),
	}, o.dial...)
	target, resolvers := p.target()
	dial = append(dial, resolvers...)
	conn, err := grpc.NewClient(target, dial...)
	if err != nil {
		return nil, fmt.Errorf("%w: address %q: %v", ErrProfile, p.Address, err)
	}
	c := &Client{
		conn:    conn,
		profile: p,
		keys:    kmsv1.NewKeyServiceClient(conn),
		crypto:  kmsv1.NewCryptoServiceClient(conn),
		imports: kmsv1.NewImportServiceClient(conn),
		system:  kmsv1.NewSystemServiceClient(conn),
	}
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx))
	c.queues, c.signing, c.end = newQueues(lifetime, c.API(), &o), newSignQueues(lifetime, c.API(), &o), end
	return c, nil
}

// Keys is the generated stub of the key service. Errors of the stubs are gRPC statuses.
func (c *Client) Keys() kmsv1.KeyServiceClient { return c.keys }

// Crypto is the generated stub of the crypto service.
func (c *Client) Crypto() kmsv1.CryptoServiceClient { return c.crypto }

// Imports is the generated stub of the import service.
func (c *Client) Imports() kmsv1.ImportServiceClient { return c.imports }

// System is the generated stub of the system service.
func (c *Client) System() kmsv1.SystemServiceClient { return c.system }

// Conn is the connection, for stubs of other services of the same server, such as
// gRPC's health service.
func (c *Client) Conn() grpc.ClientConnInterface { return c.conn }

// Profile is the profile that the client was made from.
func (c *Client) Profile() Profile { return c.profile }

// Close ends the connection and wipes all cached data keys; calls under way fail.
func (c *Client) Close() error {
	c.end()
	c.caches.close()
	return c.conn.Close()
}

func (p *Profile) transportCredentials() (credentials.TransportCredentials, error) {
	if p.IsUnix() {
		return insecure.NewCredentials(), nil
	}
	config, err := p.TLSConfig()
	if err != nil {
		return nil, err
	}
	return credentials.NewTLS(config), nil
}

// TLSConfig reads the credential files of a profile for TCP. The server's name is set if
// the profile says one; else whoever dials sets it from the address.
func (p *Profile) TLSConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: p.ServerName}
	if p.CAFile != "" {
		text, err := os.ReadFile(p.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: ca_file: %v", ErrProfile, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%w: ca_file: %s holds no PEM certificate", ErrProfile, p.CAFile)
		}
	}
	if _, err := p.ClientCertificate(); err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return p.ClientCertificate()
	}
	return config, nil
}

// ClientCertificate reads the client's certificate chain and private key.
func (p *Profile) ClientCertificate() (*tls.Certificate, error) {
	certificate, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: cert_file and key_file: %v", ErrProfile, err)
	}
	return &certificate, nil
}

// serviceConfig is gRPC's: which calls may be repeated, and how servers are chosen.
func (p *Profile) serviceConfig() string {
	health := ""
	if strings.HasPrefix(p.Address, dnsScheme) || len(p.Each()) > 1 {
		health = `"healthCheckConfig": {"serviceName": "` + kmsv1.CryptoService_ServiceDesc.ServiceName + `"},`
	}
	return `{` + health + `"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [` + retryConfig() + `]}`
}
