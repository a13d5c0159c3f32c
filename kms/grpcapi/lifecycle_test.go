package grpcapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

const (
	serving    = healthv1.HealthCheckResponse_SERVING
	notServing = healthv1.HealthCheckResponse_NOT_SERVING
)

func (r *running) checkHealth(t *testing.T, keys healthv1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	for service, want := range map[string]healthv1.HealthCheckResponse_ServingStatus{
		"": keys, "keyholt.kms.v1.KeyService": keys, "keyholt.kms.v1.CryptoService": keys,
		"keyholt.kms.v1.SystemService": serving,
	} {
		got, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil || got.GetStatus() != want {
			t.Errorf("service %q: %v, %v; want %v", service, got.GetStatus(), err, want)
		}
	}
}

func TestHealthFollowsTheToken(t *testing.T) {
	r := serve(t, Config{API: &fakeAPI{}})
	r.checkHealth(t, notServing)
	r.server.SetServing(true)
	r.checkHealth(t, serving)
	r.server.SetServing(false)
	r.checkHealth(t, notServing)
	_, err := healthv1.NewHealthClient(r.conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: "nonsense"})
	if status.Code(err) != codes.NotFound {
		t.Errorf("a service that does not exist: %v", err)
	}
}

func TestReflection(t *testing.T) {
	r := serve(t, Config{API: &fakeAPI{}})
	stream, err := reflectionv1.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	var names []string
	for _, service := range answer.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	for _, want := range []string{"keyholt.kms.v1.KeyService", "keyholt.kms.v1.CryptoService", "keyholt.kms.v1.SystemService"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not among %v", want, names)
		}
	}
}

// A drain lets a request under way finish, ends what would never end, and takes nothing new.
func TestDrain(t *testing.T) {
	begun, release := make(chan struct{}), make(chan struct{})
	r := serve(t, Config{API: &fakeAPI{random: func(context.Context, int) (kms.Secret, error) {
		close(begun)
		<-release
		return kms.Secret("done"), nil
	}}})
	r.server.SetServing(true)
	watch, err := healthv1.NewHealthClient(r.conn).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := watch.Recv(); err != nil || first.GetStatus() != serving {
		t.Fatalf("%v, %v", first, err)
	}
	answered := make(chan error, 1)
	go func() {
		response, err := r.crypto().GenerateRandom(context.Background(), &kmsv1.GenerateRandomRequest{Size: 4})
		if err == nil && string(response.GetData()) != "done" {
			err = errors.New("another answer")
		}
		answered <- err
	}()
	<-begun

	r.stop()
	for err = nil; err == nil; {
		var update *healthv1.HealthCheckResponse
		if update, err = watch.Recv(); err == nil && update.GetStatus() != notServing {
			t.Errorf("health while draining: %v", update.GetStatus())
		}
	}
	if status.Code(err) != codes.Canceled {
		t.Errorf("the watch ended with %v", err)
	}
	r.server.SetServing(true) // has no effect any more
	select {
	case err := <-r.served:
		t.Fatalf("Serve returned before the request: %v", err)
	default:
	}
	close(release)
	if err := <-answered; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	if err := <-r.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	close(r.served)
	_, err = r.crypto().GenerateRandom(t.Context(), &kmsv1.GenerateRandomRequest{Size: 4})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("after the drain: %v", err)
	}
}

func TestDrainEndsWithTheTimeout(t *testing.T) {
	begun := make(chan struct{})
	r := serve(t, Config{DrainTimeout: time.Millisecond, API: &fakeAPI{
		random: func(ctx context.Context, _ int) (kms.Secret, error) {
			close(begun)
			<-ctx.Done() // until the connection is cut
			return nil, ctx.Err()
		},
	}})
	answered := make(chan error, 1)
	go func() {
		_, err := r.crypto().GenerateRandom(context.Background(), &kmsv1.GenerateRandomRequest{Size: 4})
		answered <- err
	}()
	<-begun
	if line := r.lineWith(t, "cut off"); line["level"] != "WARN" {
		t.Errorf("the log has %v", line)
	}
	if err := <-answered; err == nil {
		t.Error("the request was served")
	}
}

func TestServeEndsWhenAListenerFails(t *testing.T) {
	server, err := New(Config{
		API: &fakeAPI{}, Credentials: authenticated(time.Time{}), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	good, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(t.Context(), good, brokenListener{good.Addr()}); !errors.Is(err, errBroken) {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", good.Addr().String()); err == nil {
		t.Error("the other listener is still open")
	}
	if err := server.Serve(t.Context()); err == nil {
		t.Error("a server serves nothing at all")
	}
}

var errBroken = errors.New("broken")

type brokenListener struct{ addr net.Addr }

func (brokenListener) Accept() (net.Conn, error) { return nil, errBroken }
func (brokenListener) Close() error              { return nil }
func (l brokenListener) Addr() net.Addr          { return l.addr }

// TestServeThatIsStoppedAtOnce is a signal that comes while the listeners are being served:
// some are not yet, and it is an end like any other.
func TestServeThatIsStoppedAtOnce(t *testing.T) {
	for range 100 {
		server, err := New(Config{API: &fakeAPI{}, Credentials: authenticated(time.Time{}), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := server.Serve(ctx, bufconn.Listen(1), bufconn.Listen(1)); err != nil {
			t.Fatal(err)
		}
	}
}
