package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// TracingConfig says where spans go. Endpoint and Logger are required.
type TracingConfig struct {
	Endpoint string // host:port of an OTLP receiver, gRPC
	Insecure bool   // without TLS; with it the system's roots are trusted
	// SampleRatio is the part of the requests that are traced, 0 to 1, of those whose
	// caller has not decided: a request that comes with a trace is traced if its
	// caller's part of the trace is.
	SampleRatio float64
	Version     string // of the server
	Logger      *slog.Logger
}

// Tracing makes spans of requests. Make one with NewTracing and Close it at the end; nil
// means none.
type Tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// scope is the name of the instrumentation scope.
const scope = "github.com/keyholt/keyholt/kms/telemetry"

// NewTracing returns a Tracing that sends spans in the background. It does not wait for
// the receiver to answer: while there is none, spans are dropped and the log says so.
func NewTracing(ctx context.Context, c TracingConfig) (*Tracing, error) {
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(c.Endpoint)}
	if c.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	}
	exporter, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("export traces to %s: %w", c.Endpoint, err)
	}
	batches := sdktrace.NewBatchSpanProcessor(&loggedExporter{SpanExporter: exporter, log: c.Logger})
	return newTracing(batches, c.SampleRatio, c.Version), nil
}

func newTracing(spans sdktrace.SpanProcessor, ratio float64, version string) *Tracing {
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(spans),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "kmsd"), attribute.String("service.version", version),
		)),
	)
	return &Tracing{provider: provider, tracer: provider.Tracer(scope, trace.WithInstrumentationVersion(version))}
}

// Close sends what is left, until ctx ends.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// ServerOptions make a gRPC server begin a span for each request of the service, as a part
// of its caller's trace (https://www.w3.org/TR/trace-context/). Health checks have none.
func (t *Tracing) ServerOptions() []grpc.ServerOption {
	if t == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()), // Metrics counts
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(func(info *stats.RPCTagInfo) bool {
			return strings.HasPrefix(info.FullMethodName, "/keyholt.")
		}),
	))}
}
