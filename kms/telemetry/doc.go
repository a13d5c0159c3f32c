// Package telemetry measures a server and traces its requests: [Metrics] for Prometheus,
// [Tracing] for OpenTelemetry. It stands around the parts of the server, as decorators of
// the interfaces that they already have, so that no other package knows of either.
//
// A nil *Metrics and a nil *Tracing are switched off: they hand back what they are given
// to watch, so what is off costs nothing.
//
// Neither metrics nor spans hold plaintext, key material, additional authenticated data,
// encryption contexts or names of principals. Label values come from fixed sets: names of
// keys and callers are in the audit log, not here. docs/observability.md describes each
// metric and span.
//
// All methods may be called concurrently, unless they say otherwise.
package telemetry
