package telemetry

import (
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyholt/keyholt/hsm/coalesce"
)

// queued makes the spans of a request that shared its call of the token with others. The
// call itself belongs to no request, so both are made when it has ended.
func (t *Tracing) queued(e *coalesce.Event) {
	if t == nil || e.Kind != coalesce.EventRequest || e.Wait == 0 ||
		!trace.SpanContextFromContext(e.Context).IsSampled() {
		return
	}
	ended := time.Now()
	called := ended.Add(-e.Call)
	_, wait := t.tracer.Start(e.Context, spanQueueWait, trace.WithTimestamp(called.Add(-e.Wait)))
	wait.End(trace.WithTimestamp(called))
	_, call := t.tracer.Start(e.Context, spanTokenCall, trace.WithTimestamp(called), trace.WithAttributes(
		attributeOperation.String(operationNames[opEncryptBlocks]), attributeBytes.Int(e.Bytes),
		attributeOutcome.String(tokenOutcome(e.Err)),
	))
	if e.Err != nil {
		call.SetStatus(codes.Error, tokenOutcome(e.Err))
	}
	call.End(trace.WithTimestamp(ended))
}
