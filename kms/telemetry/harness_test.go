package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/grpcapi"
	"github.com/keyholt/keyholt/kms/keystore"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server as kmsd makes it, watched by metrics and tracing, either of which may
// be nil, on a token in memory.
type world struct {
	service *kms.Service
	token   *hsmtest.Faults // nearest to the memory
	audit   *notebook
	crypto  kmsv1.CryptoServiceClient
	queue   *coalesce.Token
	conn    *grpc.ClientConn
}

func admin() kms.Principal { return kms.Principal{Name: "unix:0", Method: kms.MethodUnix} }

func newWorld(t testing.TB, m *Metrics, tracing *Tracing, dial ...grpc.DialOption) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{token: hsmtest.NewFaults(hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()), audit: &notebook{}}
	token := coalesce.NewToken(Token(counted{w.token}, m, tracing), coalesce.Config{Observe: QueueObserver(m, tracing)})
	t.Cleanup(func() { must(t, token.Close()) })
	m.Queue(token.Stats)

	store, err := keystore.OpenStore(ctx, keystore.Config{Driver: "sqlite", DSN: filepath.Join(t.TempDir(), "keyholt.db")}, token)
	must(t, err)
	t.Cleanup(func() { must(t, store.Close()) })
	w.service, err = kms.New(ctx, kms.Config{
		Token: token, Store: m.Store(store), Authorizer: everybody{}, Auditor: m.Auditor(w.audit),
		Logger: slog.New(slog.DiscardHandler), Observer: tracing.Observer(),
	})
	must(t, err)
	t.Cleanup(w.service.Close)
	m.Inventory(w.service.Inventory)
	m.Schedule(w.service.Schedule)
	m.Replica(w.service.ReplicaStatus)

	server, err := grpcapi.New(grpcapi.Config{
		API: w.service, Credentials: asAdmin{insecure.NewCredentials()}, Logger: slog.New(slog.DiscardHandler),
		Watch: append(m.ServerOptions(), tracing.ServerOptions()...),
	})
	must(t, err)
	w.queue, w.conn = token, serve(t, server, dial...)
	w.crypto = kmsv1.NewCryptoServiceClient(w.conn)
	return w
}

// serve serves over memory until the test ends, and returns a connection.
func serve(t testing.TB, server *grpcapi.Server, dial ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	conn, err := grpc.NewClient("passthrough:///memory", append(dial,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithDisableRetry())...)
	must(t, err)
	t.Cleanup(func() {
		must(t, conn.Close())
		stop()
		must(t, <-served)
	})
	return conn
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// await waits for what another goroutine does.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// createKey makes a key of a profile.
func (w *world) createKey(t testing.TB, id string, profile kms.Profile) string {
	t.Helper()
	name, err := kms.ParseKeyName("namespaces/default/keys/" + id)
	must(t, err)
	_, err = w.service.CreateKey(t.Context(), admin(), &kms.CreateKeyRequest{Name: name, Profile: profile})
	must(t, err)
	return name.String()
}

// generate makes wrapped data keys.
func (w *world) generate(t testing.TB, key string, n int) [][]byte {
	t.Helper()
	r, err := w.crypto.GenerateDataKeys(t.Context(), &kmsv1.GenerateDataKeysRequest{Key: key, Count: int32(n)})
	must(t, err)
	var wrapped [][]byte
	for _, item := range r.GetResults() {
		wrapped = append(wrapped, item.GetWrappedDataKey())
	}
	return wrapped
}

func (w *world) unwrap(ctx context.Context, wrapped ...[]byte) error {
	request := &kmsv1.UnwrapDataKeysRequest{Parent: "namespaces/default"}
	for _, blob := range wrapped {
		request.Items = append(request.Items, &kmsv1.UnwrapDataKeysRequest_Item{WrappedDataKey: blob})
	}
	_, err := w.crypto.UnwrapDataKeys(ctx, request)
	return err
}

// asAdmin stands for a handshake in which everybody is the administrator.
type asAdmin struct {
	credentials.TransportCredentials
}

func (c asAdmin) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, &authn.AuthInfo{
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, Principal: admin(),
	}, nil
}

func (c asAdmin) Clone() credentials.TransportCredentials { return c }

type everybody struct{}

func (everybody) Authorize(context.Context, *kms.Question) kms.Decision {
	return kms.Decision{Allowed: true}
}

// notebook is an auditor that writes nothing down, and fails while fail is set.
type notebook struct{ fail error }

func (n *notebook) Record(context.Context, *kms.Event) error { return n.fail }

// counted has the numbers of a PKCS#11 token.
type counted struct{ hsm.Token }

func (counted) Calls() hsm.Calls {
	return hsm.Calls{EncryptBlocks: 7001, Seal: 7002, Open: 7003, Random: 7004}
}

func (counted) SessionsInUse() int { return 2 }

// value is that of one series, written as name{label="value"} with the labels in the order
// of their names; a histogram's is the number of its observations.
func (m *Metrics) value(t testing.TB, series string) float64 {
	t.Helper()
	families, err := m.registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if seriesOf(family.GetName(), metric) == series {
				return valueOf(metric)
			}
		}
	}
	t.Fatalf("there is no %s", series)
	return 0
}

func (m *Metrics) has(t testing.TB, series string) bool {
	t.Helper()
	families, err := m.registry.Gather()
	must(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if seriesOf(family.GetName(), metric) == series {
				return true
			}
		}
	}
	return false
}

func seriesOf(name string, metric *dto.Metric) string {
	var labels []string
	for _, pair := range metric.GetLabel() {
		labels = append(labels, pair.GetName()+`="`+pair.GetValue()+`"`)
	}
	if labels == nil {
		return name
	}
	return name + "{" + strings.Join(labels, ",") + "}"
}

func valueOf(metric *dto.Metric) float64 {
	switch {
	case metric.GetCounter() != nil:
		return metric.GetCounter().GetValue()
	case metric.GetGauge() != nil:
		return metric.GetGauge().GetValue()
	default:
		return float64(metric.GetHistogram().GetSampleCount())
	}
}

// want checks the values of series.
func (m *Metrics) want(t testing.TB, want map[string]float64) {
	t.Helper()
	for series, value := range want {
		if got := m.value(t, series); got != value {
			t.Errorf("%s is %v, want %v", series, got, value)
		}
	}
}

var errBroken = errors.New("broken")
