package leanrpc_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/bench/leanrpc"
	"github.com/keyholt/keyholt/kms/authn"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// certificates are a server's, and the configuration of its clients.
func certificates(t *testing.T) (server tls.Certificate, client *tls.Config) {
	t.Helper()
	dir := t.TempDir()
	ca, err := authn.CreateLocalCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
	if err := ca.IssueServer(cert, key); err != nil {
		t.Fatal(err)
	}
	if server, err = tls.LoadX509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	client = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	client.RootCAs.AppendCertsFromPEM(pem)
	return server, client
}

// service is a grpc-go server's.
type service struct {
	kmsv1.UnimplementedCryptoServiceServer
	waiting chan context.Context // of Decrypt calls
}

// Encrypt answers with as many bytes as the additional data say, and else with what it got.
func (service) Encrypt(_ context.Context, m *kmsv1.EncryptRequest) (*kmsv1.EncryptResponse, error) {
	if m.GetKey() == "large" {
		return &kmsv1.EncryptResponse{Ciphertext: make([]byte, 3<<20)}, nil
	}
	return &kmsv1.EncryptResponse{Ciphertext: m.GetPlaintext(), KeyVersion: m.GetKey()}, nil
}

// Decrypt waits for the end of its context.
func (s service) Decrypt(ctx context.Context, _ *kmsv1.DecryptRequest) (*kmsv1.DecryptResponse, error) {
	s.waiting <- ctx
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

const refusal = "50 % of naïve callers\nare refused"

// Sign refuses.
func (service) Sign(context.Context, *kmsv1.SignRequest) (*kmsv1.SignResponse, error) {
	return nil, status.Error(codes.FailedPrecondition, refusal)
}

// serve starts a grpc-go server and returns it with a stub on a connection to it.
func serve(t *testing.T) (*grpc.Server, service, kmsv1.CryptoServiceClient) {
	t.Helper()
	certificate, config := certificates(t)
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	s := service{waiting: make(chan context.Context, 1)}
	kmsv1.RegisterCryptoServiceServer(server, s)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	conn := dial(t, listener.Addr().String(), config)
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return server, s, kmsv1.NewCryptoServiceClient(conn)
}

func dial(t *testing.T, address string, config *tls.Config) *leanrpc.Conn {
	t.Helper()
	conn, err := leanrpc.Dial(t.Context(), address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
