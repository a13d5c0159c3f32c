// Package echo is the baseline of the benchmarks: a server that answers the messages of
// CryptoService at once, with bytes of the right lengths and no cryptography behind them.
//
// A request passes through everything that it passes through in kmsd before its handler
// (mutual TLS, limits, the codec, the interceptors: [grpcapi.Transport]) and is decoded
// into the same messages; a response goes back the same way. There is no key, no policy
// and no audit log. So what kmsd takes beyond it is what kmsd does, and not gRPC.
//
// It protects nothing and must never stand where a client takes it for kmsd.
package echo

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/grpcapi"
	"github.com/keyholt/keyholt/kms/telemetry"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// Config says where to listen and with which certificates.
type Config struct {
	Listen string // host:port
	TLS    authn.TLSFiles
	Logger *slog.Logger
}

// Serve serves until ctx ends. It logs "listening" and "kmsd is ready" as kmsd does, for
// whoever started it.
func Serve(ctx context.Context, cfg Config) error {
	tlsConfig, err := authn.ServerTLS(cfg.TLS, nil)
	if err != nil {
		return err
	}
	server, err := grpcapi.Transport(grpcapi.Config{
		Credentials: authn.ServerCredentials(tlsConfig), Logger: cfg.Logger,
		Watch: telemetry.NewMetrics("echo").ServerOptions(), // counted as in kmsd, though nobody asks
	})
	if err != nil {
		return err
	}
	kmsv1.RegisterCryptoServiceServer(server, service{})
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, server.Stop)()
	cfg.Logger.InfoContext(ctx, "listening", slog.String("network", listener.Addr().Network()),
		slog.String("address", listener.Addr().String()))
	cfg.Logger.InfoContext(ctx, "kmsd is ready")
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}
