package softhsmtest_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/audit"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/authz"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/grpcapi"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/kmstest"
	"github.com/keyholt/keyholt/kms/wire"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// newService puts a service together from its real parts, on the given token.
func newService(t testing.TB, token hsm.Token, administrators ...string) *kms.Service {
	t.Helper()
	ctx := t.Context()
	dir := t.TempDir()
	store, err := keystore.OpenStore(ctx, keystore.Config{Driver: "sqlite", DSN: filepath.Join(dir, "keyholt.db")}, token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	auditor, err := audit.OpenFile(audit.Config{
		Path: filepath.Join(dir, "audit.jsonl"), Reason: wire.Reason, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = auditor.Close(context.Background()) })
	service, err := kms.New(ctx, kms.Config{
		Token: token, Store: store, Authorizer: authz.LocalAdministrators{Names: administrators},
		Auditor: auditor, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	return service
}

func direct(t testing.TB, token hsm.Token) kmstest.Fixture {
	t.Helper()
	admin := kms.Principal{Name: "x509:CN=admin", Method: kms.MethodTLS}
	service := newService(t, token, admin.Name)
	return kmstest.Fixture{
		Admin:    kmstest.Caller{API: service, Principal: admin},
		Stranger: kmstest.Caller{API: service, Principal: kms.Principal{Name: "x509:CN=stranger", Method: kms.MethodTLS}},
	}
}

// overTheWire serves on a loopback port with mutual TLS, and connects as two principals.
func overTheWire(t testing.TB, token hsm.Token) kmstest.Fixture {
	t.Helper()
	connect := serveTLS(t, token)
	return kmstest.Fixture{
		Admin: kmstest.Caller{API: connect("admin").API()}, Stranger: kmstest.Caller{API: connect("stranger").API()},
	}
}

// serveTLS serves on a loopback port with mutual TLS. What it returns connects as "admin",
// who may do everything, or as "stranger".
func serveTLS(t testing.TB, token hsm.Token) (connect func(who string) *client.Client) {
	t.Helper()
	profile := serveProfiles(t, token)
	return func(who string) *client.Client {
		c, err := client.Dial(t.Context(), profile(who))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

// serveProfiles is serveTLS for programs: what it returns tells how to connect.
func serveProfiles(t testing.TB, token hsm.Token) (profile func(who string) client.Profile) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca, err := authn.CreateLocalCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.IssueServer(file("server.pem"), file("server-key.pem")); err != nil {
		t.Fatal(err)
	}
	principals := make(map[string]string)
	for _, who := range []string{"admin", "stranger"} {
		if principals[who], err = ca.IssueClient(file(who+".pem"), file(who+"-key.pem"), who); err != nil {
			t.Fatal(err)
		}
	}
	tlsConfig, err := authn.ServerTLS(authn.TLSFiles{
		CertFile: file("server.pem"), KeyFile: file("server-key.pem"), ClientCAFile: ca.CertFile(),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := grpcapi.New(grpcapi.Config{
		API: newService(t, token, principals["admin"]), Credentials: authn.ServerCredentials(tlsConfig),
		Logger: slog.New(slog.DiscardHandler), Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	var listen net.ListenConfig
	listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	server.SetServing(true)
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return func(who string) client.Profile {
		return client.Profile{
			Address: listener.Addr().String(), CAFile: ca.CertFile(),
			CertFile: file(who + ".pem"), KeyFile: file(who + "-key.pem"),
		}
	}
}

func inMemory(t testing.TB) hsm.Token {
	t.Helper()
	token := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	t.Cleanup(func() { _ = token.Close() })
	return token
}

func onSoftHSM(t testing.TB) hsm.Token {
	t.Helper()
	softhsmtest.Require(t)
	return softhsmtest.New(t).Open(t)
}

func TestContractOverTheWire(t *testing.T) {
	t.Parallel()
	kmstest.Run(t, func(t testing.TB) kmstest.Fixture { return overTheWire(t, inMemory(t)) })
}

func TestContractOnSoftHSM(t *testing.T) {
	t.Parallel()
	kmstest.Run(t, func(t testing.TB) kmstest.Fixture { return direct(t, onSoftHSM(t)) })
}

func TestContractOnSoftHSMOverTheWire(t *testing.T) {
	t.Parallel()
	kmstest.Run(t, func(t testing.TB) kmstest.Fixture { return overTheWire(t, onSoftHSM(t)) })
}
