package grpcapi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/authn"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// BenchmarkUnwrap measures what the wire costs, with an API that does nothing, over a
// unix socket; the client runs in the same process.
func BenchmarkUnwrap(b *testing.B) {
	name := key(b)
	api := &fakeAPI{unwrap: func(_ context.Context, _ kms.Principal, r *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error) {
		results := make([]kms.DataKeyResult, len(r.Items))
		keys := make([]byte, 32*len(results))
		for i := range results {
			results[i] = kms.DataKeyResult{DataKey: keys[32*i : 32*i+32], Version: name.Version(1)}
		}
		return results, nil
	}}
	server, err := New(Config{API: api, Credentials: authn.ServerCredentials(nil), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(b.TempDir(), "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		stop()
		if err := conn.Close(); err != nil {
			b.Error(err)
		}
		if err := <-served; err != nil {
			b.Error(err)
		}
	}()
	client := kmsv1.NewCryptoServiceClient(conn)
	for _, n := range []int{1, 64, 1024, kms.MaxItems} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := unwrapRequest(n, 92)
			b.ReportAllocs()
			began := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := client.UnwrapDataKeys(ctx, m); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N*n)/time.Since(began).Seconds(), "items/s")
		})
	}
}
