package authn

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials"

	"github.com/keyholt/keyholt/kms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a local CA with a server and a client.
type authority struct {
	dir string
	ca  *LocalCA
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	dir := t.TempDir()
	ca, err := CreateLocalCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{dir, ca}
	if err := ca.IssueServer(a.path("server.pem"), a.path("server-key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.IssueClient(a.path("client.pem"), a.path("client-key.pem"), "billing"); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) serverFiles() TLSFiles {
	return TLSFiles{a.path("server.pem"), a.path("server-key.pem"), a.ca.CertFile()}
}

func (a *authority) client(t *testing.T) *tls.Config {
	t.Helper()
	config, err := ClientTLS(ClientTLSFiles{
		CertFile:     a.path("client.pem"),
		KeyFile:      a.path("client-key.pem"),
		ServerCAFile: a.ca.CertFile(),
		ServerName:   "localhost",
	})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// with issues another client certificate.
func (a *authority) with(t *testing.T, template *x509.Certificate) *tls.Config {
	t.Helper()
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if _, err := a.ca.issue(template, a.path("client.pem"), a.path("client-key.pem")); err != nil {
		t.Fatal(err)
	}
	return a.client(t)
}

type handshake struct {
	info credentials.AuthInfo
	err  error
}

// connect runs one handshake over a real connection, and returns what the server made of
// it and how the client fared.
func connect(t *testing.T, creds credentials.TransportCredentials, network string, client *tls.Config) (server handshake, clientErr error) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan handshake, 1)
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			done <- handshake{err: err}
			return
		}
		conn, info, err := creds.ServerHandshake(raw)
		if err == nil {
			_, err = conn.Write([]byte("hello"))
			_ = conn.Close()
		}
		done <- handshake{info, err}
	}()
	conn, err := net.Dial(network, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if client != nil {
		conn = tls.Client(conn, client)
	}
	defer conn.Close()
	if tlsConn, ok := conn.(*tls.Conn); ok {
		clientErr = tlsConn.Handshake()
	}
	if clientErr == nil {
		// TLS 1.3 tells a client of its certificate's refusal with the first bytes.
		var text []byte
		if text, clientErr = io.ReadAll(conn); clientErr == nil && string(text) != "hello" {
			clientErr = errors.New("the server closed the connection")
		}
	}
	return <-done, clientErr
}

func identity(t *testing.T, h handshake) *AuthInfo {
	t.Helper()
	if h.err != nil {
		t.Fatal(h.err)
	}
	info, ok := h.info.(*AuthInfo)
	if !ok {
		t.Fatalf("AuthInfo is %T", h.info)
	}
	return info
}

func TestUnixPeer(t *testing.T) {
	server, err := connect(t, ServerCredentials(nil), "unix", nil)
	if err != nil {
		t.Fatal(err)
	}
	info := identity(t, server)
	uid := uint32(os.Getuid())
	want := kms.Principal{
		Name: "unix:" + strconv.Itoa(int(uid)), Method: kms.MethodUnix, UID: uid, Address: "unix",
	}
	if info.Principal != want {
		t.Errorf("principal %+v, want %+v", info.Principal, want)
	}
	if info.PID != int32(os.Getpid()) {
		t.Errorf("pid %d, want %d", info.PID, os.Getpid())
	}
	if info.SecurityLevel != credentials.PrivacyAndIntegrity {
		t.Errorf("security level %v", info.SecurityLevel)
	}
}

func TestClientCertificate(t *testing.T) {
	a := newAuthority(t)
	config, err := ServerTLS(a.serverFiles(), nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := connect(t, ServerCredentials(config), "tcp", a.client(t))
	if err != nil {
		t.Fatal(err)
	}
	info := identity(t, server)
	if p := info.Principal; p.Name != "x509:CN=billing" || p.Method != kms.MethodTLS || p.UID != 0 {
		t.Errorf("principal %+v", p)
	}
	if host, _, err := net.SplitHostPort(info.Principal.Address); err != nil || host != "127.0.0.1" {
		t.Errorf("address %q", info.Principal.Address)
	}
	if d := time.Until(info.Expires); d < 9*365*24*time.Hour {
		t.Errorf("expires in %v", d)
	}
}

func TestRefusedConnections(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	config, err := ServerTLS(a.serverFiles(), nil)
	if err != nil {
		t.Fatal(err)
	}
	trusting := a.client(t).RootCAs
	tests := []struct {
		name   string
		client func(t *testing.T) *tls.Config
	}{
		{"no client certificate", func(t *testing.T) *tls.Config {
			c := a.client(t)
			c.Certificates = nil
			return c
		}},
		{"another authority", func(t *testing.T) *tls.Config {
			c := other.client(t)
			c.RootCAs = trusting
			return c
		}},
		{"TLS 1.2", func(t *testing.T) *tls.Config {
			c := a.client(t)
			c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return c
		}},
		{"expired", func(t *testing.T) *tls.Config {
			return a.with(t, &x509.Certificate{
				Subject:   pkix.Name{CommonName: "billing"},
				NotBefore: time.Now().Add(-2 * time.Hour),
				NotAfter:  time.Now().Add(-time.Hour),
			})
		}},
		{"a server's certificate", func(t *testing.T) *tls.Config {
			return a.with(t, &x509.Certificate{
				Subject:     pkix.Name{CommonName: "billing"},
				ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
			})
		}},
		{"no name", func(t *testing.T) *tls.Config { return a.with(t, &x509.Certificate{}) }},
		{"no ALPN", func(t *testing.T) *tls.Config {
			c := a.client(t)
			c.NextProtos = nil
			return c
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			server, err := connect(t, ServerCredentials(config), "tcp", test.client(t))
			if server.err == nil || err == nil {
				t.Errorf("server: %v; client: %v; want an error on both sides", server.err, err)
			}
		})
	}
}

func TestTCPWithoutTLSIsRefused(t *testing.T) {
	server, _ := connect(t, ServerCredentials(nil), "tcp", nil)
	if !errors.Is(server.err, ErrHandshake) {
		t.Errorf("error %v, want ErrHandshake", server.err)
	}
}

func TestServerCredentialsAreNotForClients(t *testing.T) {
	c := ServerCredentials(nil).Clone()
	if _, _, err := c.ClientHandshake(t.Context(), "localhost", nil); !errors.Is(err, ErrHandshake) {
		t.Errorf("error %v, want ErrHandshake", err)
	}
}

func TestIdentity(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	known := kms.Principal{Name: "x509:CN=billing", Method: kms.MethodTLS}
	tests := []struct {
		name string
		info AuthInfo
		ok   bool
	}{
		{"nobody", AuthInfo{}, false},
		{"somebody", AuthInfo{Principal: known}, true},
		{"still good", AuthInfo{Principal: known, Expires: now}, true},
		{"expired", AuthInfo{Principal: known, Expires: now.Add(-time.Second)}, false},
	}
	for i := range tests {
		test := &tests[i]
		t.Run(test.name, func(t *testing.T) {
			p, err := test.info.Identity(now)
			if test.ok && (err != nil || p != known) {
				t.Errorf("%+v, %v", p, err)
			}
			if !test.ok && (!errors.Is(err, kms.ErrUnauthenticated) || p != kms.Principal{}) {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
}
