package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyholt/keyholt/kms"
)

// The names of spans; that of a request is its method. docs/observability.md has them.
const (
	spanQueueWait = "queue wait"
	spanTokenCall = "token call"
)

// spanNames are those of the phases.
var spanNames = map[kms.Phase]string{
	kms.PhasePolicy: "policy",
	kms.PhaseCipher: "cipher",
	kms.PhaseHost:   "host crypto",
	kms.PhaseAudit:  "audit",
}

// The attributes of spans of the token.
const (
	attributeOperation = attribute.Key("keyholt.token.operation")
	attributeBytes     = attribute.Key("keyholt.token.bytes")
	attributeItems     = attribute.Key("keyholt.token.items")
	attributeOutcome   = attribute.Key("keyholt.token.outcome")
)

// Observer makes spans of the phases of a request; nil if t is.
func (t *Tracing) Observer() kms.Observer {
	if t == nil {
		return nil
	}
	return observer{t.tracer}
}

type observer struct{ tracer trace.Tracer }

var _ kms.Observer = observer{}

// Begin implements [kms.Observer]. A request that is not traced costs nothing here.
func (o observer) Begin(ctx context.Context, phase kms.Phase) (context.Context, func()) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nothing
	}
	ctx, span := o.tracer.Start(ctx, spanNames[phase])
	return ctx, func() { span.End() }
}

func nothing() {}

// beginToken begins the span of a call of the token, or returns nil if the request is not
// traced, or no request.
func (t *Tracing) beginToken(ctx context.Context, op operation, bytes, items int) (context.Context, trace.Span) {
	if t == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	return t.tracer.Start(ctx, spanTokenCall, trace.WithAttributes(
		attributeOperation.String(operationNames[op]), attributeBytes.Int(bytes), attributeItems.Int(items),
	))
}

// endToken ends it. The text of an error is for the log, not for a span.
func endToken(span trace.Span, err error) {
	outcome := tokenOutcome(err)
	span.SetAttributes(attributeOutcome.String(outcome))
	if err != nil {
		span.SetStatus(codes.Error, outcome)
	}
	span.End()
}
