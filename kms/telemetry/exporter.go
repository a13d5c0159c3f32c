package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// loggedExporter tells the log when spans cannot be sent, once until they can again. (The
// library would tell a handler that all of a process shares, for each batch.)
type loggedExporter struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
}

// ExportSpans implements [sdktrace.SpanExporter]. Its error is for the log alone.
func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch was := e.failing.Swap(err != nil); {
	case err != nil && !was:
		e.log.WarnContext(ctx, "traces cannot be sent; spans are dropped", slog.Any("error", err))
	case err == nil && was:
		e.log.InfoContext(ctx, "traces are sent again")
	}
	return nil
}
