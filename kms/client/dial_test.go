package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// keyServer records what arrives, and is unavailable for the first calls.
type keyServer struct {
	kmsv1.UnimplementedKeyServiceServer

	mu         sync.Mutex
	down       int // how many more calls are refused
	calls      int
	requestIDs []string
	deadlines  []time.Duration
	peers      []credentials.AuthInfo
}

func (s *keyServer) arrive(ctx context.Context, requestID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.requestIDs = append(s.requestIDs, requestID)
	if deadline, ok := ctx.Deadline(); ok {
		s.deadlines = append(s.deadlines, time.Until(deadline))
	}
	if p, ok := peer.FromContext(ctx); ok {
		s.peers = append(s.peers, p.AuthInfo)
	}
	if s.down > 0 {
		s.down--
		return status.Error(codes.Unavailable, "not now")
	}
	return nil
}

func (s *keyServer) CreateKey(ctx context.Context, r *kmsv1.CreateKeyRequest) (*kmsv1.Key, error) {
	return &kmsv1.Key{}, s.arrive(ctx, r.GetRequestId())
}

func (s *keyServer) UpdateKey(ctx context.Context, _ *kmsv1.UpdateKeyRequest) (*kmsv1.Key, error) {
	return &kmsv1.Key{}, s.arrive(ctx, "")
}

func (s *keyServer) GetKey(ctx context.Context, _ *kmsv1.GetKeyRequest) (*kmsv1.Key, error) {
	return &kmsv1.Key{}, s.arrive(ctx, "")
}

func (s *keyServer) RotateKey(ctx context.Context, r *kmsv1.RotateKeyRequest) (*kmsv1.RotateKeyResponse, error) {
	return &kmsv1.RotateKeyResponse{}, s.arrive(ctx, r.GetRequestId())
}

func serve(t *testing.T, network, address string, s *keyServer, opts ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(opts...)
	kmsv1.RegisterKeyServiceServer(server, s)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

func serveUnix(t *testing.T, s *keyServer) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, "unix", socket, s)
	c, err := Dial(t.Context(), Profile{Address: "unix://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestRetry(t *testing.T) {
	s := &keyServer{down: 3}
	c := serveUnix(t, s)
	request := &kmsv1.CreateKeyRequest{}
	if _, err := c.Keys().CreateKey(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if s.calls != 4 {
		t.Errorf("%d attempts, want 4", s.calls)
	}
	for _, id := range s.requestIDs {
		if id == "" || id != s.requestIDs[0] {
			t.Errorf("request ids %q: all attempts must carry the same", s.requestIDs)
		}
	}
	if request.GetRequestId() != "" {
		t.Error("the caller's message was changed")
	}
}

func TestRetryIsBounded(t *testing.T) {
	s := &keyServer{down: 100}
	_, err := serveUnix(t, s).Keys().GetKey(t.Context(), &kmsv1.GetKeyRequest{})
	if status.Code(err) != codes.Unavailable || s.calls != 4 {
		t.Errorf("%v after %d attempts", err, s.calls)
	}
}

func TestUpdateIsNotRepeated(t *testing.T) {
	s := &keyServer{down: 1}
	_, err := serveUnix(t, s).Keys().UpdateKey(t.Context(), &kmsv1.UpdateKeyRequest{})
	if status.Code(err) != codes.Unavailable || s.calls != 1 {
		t.Errorf("%v after %d attempts", err, s.calls)
	}
}

func TestRequestIDOfTheCaller(t *testing.T) {
	s := &keyServer{}
	c := serveUnix(t, s)
	const mine = "0b5d2a4e-63a8-4c92-8f2e-9b4d1c8f7a10"
	if _, err := c.Keys().RotateKey(t.Context(), &kmsv1.RotateKeyRequest{RequestId: mine}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Keys().RotateKey(t.Context(), &kmsv1.RotateKeyRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if s.requestIDs[0] != mine || s.requestIDs[1] == s.requestIDs[2] {
		t.Errorf("request ids %q", s.requestIDs)
	}
}

func TestDefaultDeadline(t *testing.T) {
	s := &keyServer{}
	c := serveUnix(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, ctx := range []context.Context{t.Context(), ctx} {
		if _, err := c.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.deadlines) != 2 || s.deadlines[0] > DefaultTimeout || s.deadlines[1] < DefaultTimeout {
		t.Errorf("deadlines %v", s.deadlines)
	}
}

func TestNobodyListens(t *testing.T) {
	c, err := Dial(t.Context(), Profile{Address: "unix://" + filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Keys().GetKey(t.Context(), &kmsv1.GetKeyRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v", err)
	}
}

func TestDialTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, filepath.Join(dir, "ca.pem"))
	ca.issue(t, filepath.Join(dir, "server"), "127.0.0.1")
	ca.issue(t, filepath.Join(dir, "client"), "orders")
	server, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	config := &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}
	s := &keyServer{}
	profile := Profile{
		Address:  serve(t, "tcp", "127.0.0.1:0", s, grpc.Creds(credentials.NewTLS(config))),
		CAFile:   filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "client.pem"),
		KeyFile:  filepath.Join(dir, "client.key"),
	}
	get := func(p Profile) error {
		c, err := Dial(t.Context(), p, WithTimeout(time.Minute))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Keys().GetKey(t.Context(), &kmsv1.GetKeyRequest{})
		return err
	}
	if err := get(profile); err != nil {
		t.Fatal(err)
	}
	info, ok := s.peers[0].(credentials.TLSInfo)
	if !ok || info.State.Version != tls.VersionTLS13 {
		t.Errorf("peer %T %+v", s.peers[0], info.State.Version)
	}
	if name := info.State.PeerCertificates[0].Subject.CommonName; name != "orders" {
		t.Errorf("the server saw %q", name)
	}

	other := profile
	newAuthority(t, filepath.Join(dir, "other.pem"))
	other.CAFile = filepath.Join(dir, "other.pem")
	if err := get(other); status.Code(err) != codes.Unavailable {
		t.Errorf("server of another authority: %v", err)
	}
	other = profile
	other.ServerName = "kms.example.com"
	if err := get(other); status.Code(err) != codes.Unavailable {
		t.Errorf("server of another name: %v", err)
	}

	// In a list each server is held to its own name.
	other = profile
	other.Address = "127.0.0.1:1," + profile.Address // nobody listens at the first
	if err := get(other); err != nil {
		t.Errorf("a list: %v", err)
	}
	other.ServerName = "kms.example.com"
	if err := get(other); status.Code(err) != codes.Unavailable {
		t.Errorf("a list with a server of another name: %v", err)
	}

	for name, spoil := range map[string]func(*Profile){
		"no CA file":         func(p *Profile) { p.CAFile = filepath.Join(dir, "none") },
		"CA file of rubbish": func(p *Profile) { p.CAFile = p.KeyFile },
		"no certificate":     func(p *Profile) { p.CertFile = filepath.Join(dir, "none") },
		"key of another":     func(p *Profile) { p.KeyFile = filepath.Join(dir, "server.key") },
	} {
		other := profile
		spoil(&other)
		if err := get(other); !errors.Is(err, ErrProfile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// authority issues certificates for tests.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, path string) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{certificate: template}
	a.certificate, a.key = a.sign(t, template, path)
	return a
}

// issue makes path.pem and path.key; a name that is an IP address is the server's.
func (a *authority) issue(t *testing.T, path, name string) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	_, key := a.sign(t, template, path+".pem")
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path+".key", "PRIVATE KEY", der)
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, path string,
) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, path, "CERTIFICATE", der)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
