package grpcapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// inMemory stands for a handshake: every connection is what info says.
type inMemory struct {
	credentials.TransportCredentials
	info credentials.AuthInfo
}

func (c inMemory) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, c.info, nil
}

func (c inMemory) Clone() credentials.TransportCredentials { return c }

func somebody() kms.Principal {
	return kms.Principal{Name: "unix:1000", Method: kms.MethodUnix, UID: 1000}
}

// authenticated are credentials for which everybody is somebody.
func authenticated(expires time.Time) credentials.TransportCredentials {
	return inMemory{insecure.NewCredentials(), &authn.AuthInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		Principal:      somebody(),
		Expires:        expires,
	}}
}

// journal is a log to read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// running is a server with a client.
type running struct {
	server *Server
	conn   *grpc.ClientConn
	log    *journal
	stop   context.CancelFunc // begins the drain
	served chan error         // what Serve returned
}

func (r *running) crypto() kmsv1.CryptoServiceClient { return kmsv1.NewCryptoServiceClient(r.conn) }
func (r *running) keys() kmsv1.KeyServiceClient      { return kmsv1.NewKeyServiceClient(r.conn) }
func (r *running) system() kmsv1.SystemServiceClient { return kmsv1.NewSystemServiceClient(r.conn) }

// serve starts a server over an in-memory connection and stops it when the test ends.
func serve(t *testing.T, cfg Config) *running {
	t.Helper()
	r := &running{log: &journal{}, served: make(chan error, 1)}
	if cfg.Credentials == nil {
		cfg.Credentials = authenticated(time.Time{})
	}
	cfg.Logger = slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	listener := bufconn.Listen(1 << 20)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.served <- r.server.Serve(ctx, listener) }()
	r.conn, err = grpc.NewClient("passthrough:///memory",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return listener.DialContext(ctx)
		}),
		grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		if err := r.conn.Close(); err != nil {
			t.Error(err)
		}
		if err, ok := <-r.served; ok && err != nil {
			t.Error(err)
		}
	})
	return r
}

// fakeAPI answers with what the test says; a method that the test did not foresee
// panics on the nil interface.
type fakeAPI struct {
	kms.API
	unwrap   func(ctx context.Context, p kms.Principal, r *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error)
	wrap     func(ctx context.Context, r *kms.WrapDataKeysRequest) ([]kms.DataKeyResult, error)
	random   func(ctx context.Context, size int) (kms.Secret, error)
	listKeys func(page kms.Page) (*kms.KeyList, error)
	backup   func(ctx context.Context, w io.Writer) (*kms.StoreReport, error)
	restore  func(ctx context.Context, r *kms.RestoreStoreRequest) (*kms.StoreReport, error)
}

func (f *fakeAPI) BackupStore(ctx context.Context, _ kms.Principal, w io.Writer) (*kms.StoreReport, error) {
	return f.backup(ctx, w)
}

func (f *fakeAPI) RestoreStore(ctx context.Context, _ kms.Principal, r *kms.RestoreStoreRequest) (*kms.StoreReport, error) {
	return f.restore(ctx, r)
}

func (f *fakeAPI) UnwrapDataKeys(ctx context.Context, p kms.Principal, r *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	return f.unwrap(ctx, p, r)
}

func (f *fakeAPI) WrapDataKeys(ctx context.Context, _ kms.Principal, r *kms.WrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	return f.wrap(ctx, r)
}

func (f *fakeAPI) GenerateRandom(ctx context.Context, _ kms.Principal, size int) (kms.Secret, error) {
	return f.random(ctx, size)
}

func (f *fakeAPI) ListKeys(_ context.Context, _ kms.Principal, _ kms.NamespaceName, page kms.Page) (*kms.KeyList, error) {
	return f.listKeys(page)
}

// key is namespaces/shop/keys/orders.
func key(t testing.TB) kms.KeyName {
	t.Helper()
	name, err := kms.ParseKeyName("namespaces/shop/keys/orders")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// unwrapRequest has n items of the given length.
func unwrapRequest(n, length int) *kmsv1.UnwrapDataKeysRequest {
	m := &kmsv1.UnwrapDataKeysRequest{Parent: "namespaces/shop"}
	for range n {
		m.Items = append(m.Items, &kmsv1.UnwrapDataKeysRequest_Item{WrappedDataKey: make([]byte, length)})
	}
	return m
}
