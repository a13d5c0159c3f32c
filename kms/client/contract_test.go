package client_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/authz"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/grpcapi"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/kmstest"
)

// The contract of kms.API holds over the wire too: through a unix socket, and through
// TCP with client certificates.
func TestContract(t *testing.T) {
	for _, transport := range []string{"unix", "tls"} {
		t.Run(transport, func(t *testing.T) {
			kmstest.Run(t, func(t testing.TB) kmstest.Fixture {
				s := startServer(t)
				admin := s.unix
				if transport == "tls" {
					admin = s.admin
				}
				return kmstest.Fixture{
					Admin:    kmstest.Caller{API: dial(t, admin).API()},
					Stranger: kmstest.Caller{API: dial(t, s.stranger).API()},
				}
			})
		})
	}
}

// server is a whole service in this process, on an in-memory token.
type server struct {
	unix, admin, stranger client.Profile // who its callers are
}

func dial(t testing.TB, p client.Profile) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), p)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func startServer(t testing.TB) *server {
	t.Helper()
	dir := t.TempDir()
	ca, err := authn.CreateLocalCA(dir)
	must(t, err)
	file := func(name string) string { return filepath.Join(dir, name) }
	must(t, ca.IssueServer(file("server.pem"), file("server.key")))
	adminName, err := ca.IssueClient(file("admin.pem"), file("admin.key"), "admin")
	must(t, err)
	_, err = ca.IssueClient(file("stranger.pem"), file("stranger.key"), "stranger")
	must(t, err)
	tlsConfig, err := authn.ServerTLS(authn.TLSFiles{
		CertFile: file("server.pem"), KeyFile: file("server.key"), ClientCAFile: ca.CertFile(),
	}, nil)
	must(t, err)

	api, err := grpcapi.New(grpcapi.Config{
		API: startService(t, file("keyholt.db"), authz.LocalAdministrators{
			UID: uint32(os.Getuid()), Names: []string{adminName},
		}),
		Credentials: authn.ServerCredentials(tlsConfig),
		Logger:      slog.New(slog.DiscardHandler),
		Version:     "test",
	})
	must(t, err)
	api.SetServing(true)
	socket, err := net.Listen("unix", file("s"))
	must(t, err)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- api.Serve(ctx, socket, tcp) }()
	t.Cleanup(func() {
		stop()
		must(t, <-done)
	})
	profile := func(name string) client.Profile {
		return client.Profile{
			Address: tcp.Addr().String(), CAFile: ca.CertFile(),
			CertFile: file(name + ".pem"), KeyFile: file(name + ".key"),
		}
	}
	return &server{
		unix:  client.Profile{Address: "unix://" + file("s")},
		admin: profile("admin"), stranger: profile("stranger"),
	}
}

func startService(t testing.TB, path string, authorizer kms.Authorizer) *kms.Service {
	t.Helper()
	ctx := t.Context()
	token := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	t.Cleanup(func() { must(t, token.Close()) })
	store, err := keystore.OpenStore(ctx, keystore.Config{Driver: "sqlite", DSN: path}, token)
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	service, err := kms.New(ctx, kms.Config{
		Token: token, Store: store, Authorizer: authorizer, Auditor: noAudit{},
		Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(service.Close)
	return service
}

// noAudit is an auditor for tests of something else.
type noAudit struct{}

func (noAudit) Record(context.Context, *kms.Event) error { return nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
