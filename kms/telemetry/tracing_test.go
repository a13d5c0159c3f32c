package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// recorded is tracing whose spans stay here. Each has ended when it is listed.
type recorded struct {
	*Tracing
	spans *tracetest.InMemoryExporter
}

func record(t testing.TB, ratio float64) recorded {
	spans := tracetest.NewInMemoryExporter()
	tracing := newTracing(sdktrace.NewSimpleSpanProcessor(spans), ratio, "v1.2.3")
	t.Cleanup(func() { must(t, tracing.Close(context.Background())) })
	return recorded{tracing, spans}
}

// children are the names of the spans below the one with the given name, in the order in
// which they began; a token call has its operation behind it.
func (r recorded) children(parent string) []string {
	stubs := r.spans.GetSpans()
	slices.SortStableFunc(stubs, func(a, b tracetest.SpanStub) int { return a.StartTime.Compare(b.StartTime) })
	var names []string
	for _, p := range stubs {
		if p.Name != parent {
			continue
		}
		for _, s := range stubs {
			if s.Parent.SpanID() == p.SpanContext.SpanID() {
				names = append(names, described(s))
			}
		}
	}
	return names
}

func described(s tracetest.SpanStub) string {
	for _, a := range s.Attributes {
		if a.Key == attributeOperation {
			return s.Name + " " + a.Value.AsString()
		}
	}
	return s.Name
}

const unwrapSpan = "keyholt.kms.v1.CryptoService/UnwrapDataKeys"

// settled waits until the span of a request has ended, which can be after the client has
// its answer. Those below it have ended before.
func (r recorded) settled(t *testing.T, name string) {
	t.Helper()
	await(t, "span "+name, func() bool { return r.count(name) > 0 })
}

// count is how many spans of the name have ended.
func (r recorded) count(name string) int {
	n := 0
	for _, s := range r.spans.GetSpans() {
		if s.Name == name {
			n++
		}
	}
	return n
}

// TestSpansOfARequest: the phases are below the request, the token's call below the
// cipher, and nothing of the request's content is in any of them.
func TestSpansOfARequest(t *testing.T) {
	r := record(t, 1)
	w := newWorld(t, nil, r.Tracing)
	key := w.createKey(t, "orders", kms.ProfileDerived)
	binding := map[string]string{"customer": "context-4711"}
	generated, err := w.crypto.GenerateDataKeys(t.Context(), &kmsv1.GenerateDataKeysRequest{
		Key: key, EncryptionContext: binding, AdditionalAuthenticatedData: []byte("aad-4711"),
	})
	must(t, err)
	r.spans.Reset()
	_, err = w.crypto.UnwrapDataKeys(t.Context(), &kmsv1.UnwrapDataKeysRequest{
		Parent: "namespaces/default", EncryptionContext: binding, AdditionalAuthenticatedData: []byte("aad-4711"),
		Items: []*kmsv1.UnwrapDataKeysRequest_Item{{WrappedDataKey: generated.GetResults()[0].GetWrappedDataKey()}},
	})
	must(t, err)
	r.settled(t, unwrapSpan)

	if got, want := r.children(unwrapSpan), []string{"policy", "cipher", "host crypto", "audit"}; !slices.Equal(got, want) {
		t.Errorf("below the request: %q, want %q", got, want)
	}
	if got, want := r.children("cipher"), []string{"token call encrypt_blocks"}; !slices.Equal(got, want) {
		t.Errorf("below the cipher: %q, want %q", got, want)
	}
	for _, s := range r.spans.GetSpans() {
		text := fmt.Sprintf("%v %v %v %v", s.Name, s.Attributes, s.Events, s.Status)
		for _, secret := range []string{"4711", "customer", "orders", "unix:0"} {
			if strings.Contains(text, secret) {
				t.Errorf("span %s tells %q: %s", s.Name, secret, text)
			}
		}
		if s.Resource.String() == "" || !strings.Contains(s.Resource.String(), "kmsd") {
			t.Errorf("span %s is of %s", s.Name, s.Resource)
		}
	}
}

// TestSpanOfAFailure: the outcome is told by its name, not by the text of the error.
func TestSpanOfAFailure(t *testing.T) {
	r := record(t, 1)
	w := newWorld(t, nil, r.Tracing)
	wrapped := w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 1)
	r.spans.Reset()
	w.token.FailBefore(hsmtest.MethodEncryptBlocks, fmt.Errorf("%w: text-4711", hsm.ErrUnavailable))
	if err := w.unwrap(t.Context(), wrapped...); err == nil {
		t.Fatal("no error")
	}
	r.settled(t, unwrapSpan)
	for _, s := range r.spans.GetSpans() {
		if s.Name == spanTokenCall {
			if text := fmt.Sprint(s.Attributes, s.Status); s.Status.Description != "unavailable" || strings.Contains(text, "4711") {
				t.Errorf("the call says %s", text)
			}
			return
		}
	}
	t.Error("no call")
}

// TestSampling: the caller's decision counts; health checks are not traced.
func TestSampling(t *testing.T) {
	r := record(t, 0)
	callers := sdktrace.NewTracerProvider()
	defer func() { must(t, callers.Shutdown(context.Background())) }()
	traceContext := grpc.WithStatsHandler(otelgrpc.NewClientHandler(otelgrpc.WithTracerProvider(callers),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()), otelgrpc.WithPropagators(propagation.TraceContext{})))

	w := newWorld(t, nil, r.Tracing)
	w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 1)
	if spans := r.spans.GetSpans(); len(spans) != 0 {
		t.Errorf("%d spans with a ratio of 0", len(spans))
	}

	w = newWorld(t, nil, r.Tracing, traceContext)
	w.generate(t, w.createKey(t, "orders", kms.ProfileDerived), 1)
	r.settled(t, "keyholt.kms.v1.CryptoService/GenerateDataKeys")

	all := record(t, 1)
	health := healthv1.NewHealthClient(newWorld(t, nil, all.Tracing).conn)
	_, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{})
	must(t, err)
	for _, s := range all.spans.GetSpans() {
		if strings.Contains(s.Name, "Health") {
			t.Errorf("span %s", s.Name)
		}
	}
}

// receiver is an OTLP receiver.
type receiver struct {
	collector.UnimplementedTraceServiceServer
	mu   sync.Mutex
	seen map[string]bool // names of spans
}

func (r *receiver) Export(_ context.Context, m *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range m.GetResourceSpans() {
		for _, scoped := range resource.GetScopeSpans() {
			for _, span := range scoped.GetSpans() {
				r.seen[span.GetName()] = true
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// TestExport: spans reach a receiver, those of the end included.
func TestExport(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server, received := grpc.NewServer(), &receiver{seen: make(map[string]bool)}
	collector.RegisterTraceServiceServer(server, received)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		must(t, <-served)
	}()

	tracing, err := NewTracing(t.Context(), TracingConfig{
		Endpoint: listener.Addr().String(), Insecure: true, SampleRatio: 1, Logger: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	ctx, span := tracing.tracer.Start(t.Context(), "request")
	_, end := tracing.Observer().Begin(ctx, kms.PhaseHost)
	end()
	span.End()
	must(t, tracing.Close(t.Context()))
	if !received.seen["request"] || !received.seen["host crypto"] {
		t.Errorf("received %v", received.seen)
	}
}

// TestNoReceiver: without a receiver nothing fails, and the log says so once.
func TestNoReceiver(t *testing.T) {
	var log bytes.Buffer
	exporter := &loggedExporter{
		SpanExporter: &unreachable{}, log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	for range 3 {
		must(t, exporter.ExportSpans(t.Context(), nil))
	}
	if n := strings.Count(log.String(), "cannot be sent"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	exporter.SpanExporter = tracetest.NewNoopExporter()
	must(t, exporter.ExportSpans(t.Context(), nil))
	if !strings.Contains(log.String(), "sent again") {
		t.Errorf("the end is not told:\n%s", &log)
	}
}

type unreachable struct{ tracetest.NoopExporter }

func (*unreachable) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return errBroken }
