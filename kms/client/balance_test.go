package client

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// replica is one of several servers behind one name.
type replica struct {
	keyServer
	health *health.Server
}

func (r *replica) setServing(state healthv1.HealthCheckResponse_ServingStatus) {
	r.health.SetServingStatus(kmsv1.CryptoService_ServiceDesc.ServiceName, state)
}

func (r *replica) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

func startReplica(t *testing.T) (*replica, resolver.Address) {
	t.Helper()
	r := &replica{health: health.NewServer()}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	kmsv1.RegisterKeyServiceServer(server, r)
	healthv1.RegisterHealthServer(server, r.health)
	r.setServing(healthv1.HealthCheckResponse_SERVING)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r, resolver.Address{Addr: listener.Addr().String()}
}

// Of several servers behind one name, those get calls that say they are serving: all in
// turn, and a server that comes back too.
func TestBalancingByHealth(t *testing.T) {
	first, firstAddress := startReplica(t)
	second, secondAddress := startReplica(t)
	names := manual.NewBuilderWithScheme("dns") // the resolver, without a name server
	names.InitialState(resolver.State{Addresses: []resolver.Address{firstAddress, secondAddress}})
	dir := t.TempDir()
	newAuthority(t, filepath.Join(dir, "ca.pem")).issue(t, filepath.Join(dir, "client"), "orders")
	c, err := Dial(t.Context(), Profile{
		Address: "dns:///kms.example.com:7443", CAFile: filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "client.pem"), KeyFile: filepath.Join(dir, "client.key"),
	}, WithDialOptions(grpc.WithResolvers(names), grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	callUntil := func(what string, reached func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for !reached() {
			if _, err := c.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{}); err != nil {
				t.Fatalf("until %s: %v", what, err)
			}
		}
	}
	// more calls than could be chance go to one, and none to the other
	only := func(one, other *replica) func() bool {
		had, before := one.count(), other.count()
		return func() bool {
			if other.count() != before {
				had, before = one.count(), other.count()
			}
			return one.count()-had >= 50
		}
	}
	callUntil("both have been called", func() bool { return first.count() > 5 && second.count() > 5 })
	first.setServing(healthv1.HealthCheckResponse_NOT_SERVING)
	callUntil("only the second is called", only(second, first))
	had := first.count()
	first.setServing(healthv1.HealthCheckResponse_SERVING)
	callUntil("the first is called again", func() bool { return first.count() > had })
	second.setServing(healthv1.HealthCheckResponse_NOT_SERVING)
	callUntil("only the first is called", only(first, second))
}

// Of the replicas that a profile lists, one that refuses calls because its lease has lapsed
// is passed over, even before its health service says so.
func TestAnotherReplicaIsTried(t *testing.T) {
	first, firstAddress := startReplica(t)
	second, secondAddress := startReplica(t)
	dir := t.TempDir()
	newAuthority(t, filepath.Join(dir, "ca.pem")).issue(t, filepath.Join(dir, "client"), "orders")
	c, err := Dial(t.Context(), Profile{
		Address: firstAddress.Addr + ", " + secondAddress.Addr, CAFile: filepath.Join(dir, "ca.pem"),
		CertFile: filepath.Join(dir, "client.pem"), KeyFile: filepath.Join(dir, "client.key"),
	}, WithDialOptions(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	get := func() {
		t.Helper()
		if _, err := c.Keys().GetKey(ctx, &kmsv1.GetKeyRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for first.count() == 0 || second.count() == 0 { // until both are connected
		get()
	}
	first.mu.Lock()
	first.down = 1 << 30
	first.mu.Unlock()
	had, served := first.count(), second.count()
	for range 20 {
		get()
	}
	if first.count() == had || second.count() != served+20 {
		t.Errorf("the first was called %d times, the second %d times, want some and 20",
			first.count()-had, second.count()-served)
	}
}

// Several unix sockets are a list as well, and one that is not there is no obstacle.
func TestListOfSockets(t *testing.T) {
	s := &keyServer{}
	dir := t.TempDir()
	serve(t, "unix", filepath.Join(dir, "b"), s)
	c, err := Dial(t.Context(), Profile{Address: "unix://" + filepath.Join(dir, "a") + ",unix://" + filepath.Join(dir, "b")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 10 {
		if _, err := c.Keys().GetKey(t.Context(), &kmsv1.GetKeyRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	if s.calls != 10 {
		t.Errorf("%d calls arrived, want 10", s.calls)
	}
}
