package telemetry

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// BenchmarkUnwrapOne is a request with one data key on a token in memory, over a
// connection in memory, to compare what watching it costs; the client is in it.
func BenchmarkUnwrapOne(b *testing.B) {
	for _, bench := range []struct {
		name    string
		metrics bool
		tracing bool
		ratio   float64
	}{
		{name: "off"},
		{name: "metrics", metrics: true},
		{name: "unsampled", tracing: true},
		{name: "sampled", tracing: true, ratio: 1},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var m *Metrics
			var tracing *Tracing
			if bench.metrics {
				m = NewMetrics("v1.2.3")
			}
			if bench.tracing {
				tracing = newTracing(discard{}, bench.ratio, "v1.2.3")
			}
			w := newWorld(b, m, tracing)
			request := &kmsv1.UnwrapDataKeysRequest{Parent: "namespaces/default"}
			for _, blob := range w.generate(b, w.createKey(b, "orders", kms.ProfileDerived), 1) {
				request.Items = append(request.Items, &kmsv1.UnwrapDataKeysRequest_Item{WrappedDataKey: blob})
			}
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.crypto.UnwrapDataKeys(ctx, request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// discard is a span processor that keeps nothing.
type discard struct{}

func (discard) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (discard) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (discard) Shutdown(context.Context) error                  { return nil }
func (discard) ForceFlush(context.Context) error                { return nil }
