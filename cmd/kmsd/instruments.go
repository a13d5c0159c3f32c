package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/kms/telemetry"
)

// instruments measure the server. Each is nil when it is off, which its methods know.
type instruments struct {
	metrics *telemetry.Metrics
	tracing *telemetry.Tracing
}

func newInstruments(ctx context.Context, c *config, log *slog.Logger) (instruments, error) {
	var i instruments
	if c.Listen.Metrics != "" {
		i.metrics = telemetry.NewMetrics(version())
	}
	if c.Tracing.Endpoint == "" {
		return i, nil
	}
	var err error
	i.tracing, err = telemetry.NewTracing(ctx, telemetry.TracingConfig{
		Endpoint:    c.Tracing.Endpoint,
		Insecure:    c.Tracing.Insecure,
		SampleRatio: c.Tracing.SampleRatio,
		Version:     version(),
		Logger:      log,
	})
	return i, err
}

// token measures a token and, if the configuration wants it, puts a queue before it in
// which requests for one key share calls. What it returns owns the token.
func (i instruments) token(c hsmConfig, token hsm.Token) hsm.Token {
	measured := telemetry.Token(token, i.metrics, i.tracing)
	if !c.Coalesce {
		return measured
	}
	queue := coalesce.NewToken(measured, coalesce.Config{Observe: telemetry.QueueObserver(i.metrics, i.tracing)})
	i.metrics.Queue(queue.Stats)
	return queue
}

// serverOptions are for the gRPC server.
func (i instruments) serverOptions() []grpc.ServerOption {
	return slices.Concat(i.metrics.ServerOptions(), i.tracing.ServerOptions())
}

// tracingCloseTimeout is how long the last spans have to be sent.
const tracingCloseTimeout = 5 * time.Second

// close sends what spans are left. It goes on when ctx has ended, as it has by then. Lost
// spans are not worth failing for.
func (i instruments) close(ctx context.Context, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracingCloseTimeout)
	defer cancel()
	if err := i.tracing.Close(ctx); err != nil {
		log.WarnContext(ctx, "the last traces were not sent", slog.Any("error", err))
	}
}

const (
	metricsReadTimeout  = 5 * time.Second
	metricsWriteTimeout = 30 * time.Second
	metricsIdleTimeout  = 2 * time.Minute
	metricsHeaderBytes  = 8 << 10
	metricsCloseTimeout = time.Second
)

// serveMetrics serves the metrics, if they are on, until end is called: beyond the drain,
// so that it can be watched. That they cannot be served any more does not end the server.
func (i instruments) serveMetrics(
	ctx context.Context, address string, healthy func() bool, log *slog.Logger,
) (end func(), err error) {
	if i.metrics == nil {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	server := &http.Server{
		Handler:           i.metrics.Handler(healthy),
		ReadHeaderTimeout: metricsReadTimeout,
		ReadTimeout:       metricsReadTimeout,
		WriteTimeout:      metricsWriteTimeout,
		IdleTimeout:       metricsIdleTimeout,
		MaxHeaderBytes:    metricsHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.ErrorContext(ctx, "metrics are not served any more", slog.Any("error", err))
		}
	}()
	log.InfoContext(ctx, "listening", slog.String("network", "metrics"),
		slog.String("address", listener.Addr().String()))
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), metricsCloseTimeout)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			_ = server.Close() // whoever reads that slowly gets half
		}
		<-ended
	}, nil
}
