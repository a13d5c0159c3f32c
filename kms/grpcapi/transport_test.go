package grpcapi

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// whoAmI answers Diagnose with the principal, as the server sees it.
type whoAmI struct{ kms.API }

func (whoAmI) Diagnose(_ context.Context, p kms.Principal) ([]kms.Finding, error) {
	return []kms.Finding{{Area: "transport", Check: p.Name, Detail: p.Address}}, nil
}

// sockets is a server on a unix socket and on TCP, as kmsd runs it.
type sockets struct {
	dir       string
	ca        *authn.LocalCA
	unix, tcp string // to dial
}

func (s *sockets) path(name string) string { return filepath.Join(s.dir, name) }

func newSockets(t *testing.T) *sockets {
	t.Helper()
	s := &sockets{dir: t.TempDir()}
	var err error
	if s.ca, err = authn.CreateLocalCA(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.ca.IssueServer(s.path("server.pem"), s.path("server-key.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ca.IssueClient(s.path("client.pem"), s.path("client-key.pem"), "billing"); err != nil {
		t.Fatal(err)
	}
	config, err := authn.ServerTLS(authn.TLSFiles{
		CertFile: s.path("server.pem"), KeyFile: s.path("server-key.pem"), ClientCAFile: s.ca.CertFile(),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := New(Config{
		API: whoAmI{}, Credentials: authn.ServerCredentials(config), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	unix, err := net.Listen("unix", s.path("socket"))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.unix, s.tcp = "unix://"+s.path("socket"), "dns:///"+tcp.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, unix, tcp) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *sockets) clientTLS(t *testing.T) *tls.Config {
	t.Helper()
	config, err := authn.ClientTLS(authn.ClientTLSFiles{
		CertFile: s.path("client.pem"), KeyFile: s.path("client-key.pem"), ServerCAFile: s.ca.CertFile(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// ask makes one request over a new connection.
func ask(t *testing.T, target string, creds credentials.TransportCredentials) (*kmsv1.DiagnoseResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return kmsv1.NewSystemServiceClient(conn).Diagnose(ctx, &kmsv1.DiagnoseRequest{})
}

// askWho is ask for WhoAmI.
func askWho(t *testing.T, target string, creds credentials.TransportCredentials) (*kmsv1.WhoAmIResponse, error) {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return kmsv1.NewSystemServiceClient(conn).WhoAmI(ctx, &kmsv1.WhoAmIRequest{})
}

// TestWhoAmI: each caller is told its own identity.
func TestWhoAmI(t *testing.T) {
	s := newSockets(t)
	for target, test := range map[string]struct {
		creds  credentials.TransportCredentials
		name   string
		method kmsv1.WhoAmIResponse_Method
	}{
		s.unix: {insecure.NewCredentials(), "unix:" + strconv.Itoa(os.Getuid()), kmsv1.WhoAmIResponse_METHOD_UNIX},
		s.tcp:  {credentials.NewTLS(s.clientTLS(t)), "x509:CN=billing", kmsv1.WhoAmIResponse_METHOD_TLS},
	} {
		got, err := askWho(t, target, test.creds)
		if err != nil || got.GetPrincipal() != test.name || got.GetMethod() != test.method {
			t.Errorf("%v, %v, want %s by %v", got, err, test.name, test.method)
		}
	}
}

func TestOverUnixSocket(t *testing.T) {
	s := newSockets(t)
	got, err := ask(t, s.unix, insecure.NewCredentials())
	if err != nil {
		t.Fatal(err)
	}
	want := "unix:" + strconv.Itoa(os.Getuid())
	if got.GetPrincipal() != want || got.GetFindings()[0].GetCheck() != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestOverMutualTLS(t *testing.T) {
	s := newSockets(t)
	got, err := ask(t, s.tcp, credentials.NewTLS(s.clientTLS(t)))
	if err != nil {
		t.Fatal(err)
	}
	if got.GetPrincipal() != "x509:CN=billing" || !strings.HasPrefix(got.GetFindings()[0].GetDetail(), "127.0.0.1:") {
		t.Errorf("%v", got)
	}
}

// TestWhoAmINeedsAnIdentity: a connection without one is told nothing.
func TestWhoAmINeedsAnIdentity(t *testing.T) {
	r := serve(t, Config{API: whoAmI{}, Credentials: insecure.NewCredentials()})
	got, err := kmsv1.NewSystemServiceClient(r.conn).WhoAmI(t.Context(), &kmsv1.WhoAmIRequest{})
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("%v, %v", got, err)
	}
}

func TestStrangersAreNotServed(t *testing.T) {
	s, other := newSockets(t), newSockets(t)
	trusting := s.clientTLS(t).RootCAs
	for name, creds := range map[string]credentials.TransportCredentials{
		"plain text":            insecure.NewCredentials(),
		"no client certificate": credentials.NewTLS(&tls.Config{RootCAs: trusting, MinVersion: tls.VersionTLS13}),
		"another authority": func() credentials.TransportCredentials {
			config := other.clientTLS(t)
			config.RootCAs = trusting
			return credentials.NewTLS(config)
		}(),
		"TLS 1.2": func() credentials.TransportCredentials {
			config := s.clientTLS(t)
			config.MinVersion, config.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
			return credentials.NewTLS(config)
		}(),
		"a client that trusts another server": credentials.NewTLS(other.clientTLS(t)),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := ask(t, s.tcp, creds); status.Code(err) != codes.Unavailable {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
