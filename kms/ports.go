package kms

import (
	"context"
	"time"
)

// Principal is who makes a request, as authentication established it. It is an
// explicit value, never taken from a context.
type Principal struct {
	// Name identifies the principal in logs, rows and policies: "unix:1000",
	// "x509:CN=billing,O=Example". Empty: nobody.
	Name string
	// Method is how it was established: MethodUnix or MethodTLS.
	Method Method
	// UID is the peer's user id, for MethodUnix.
	UID uint32
	// Address is the network address of the peer, for the audit log.
	Address string
}

// Method is how a principal proved who it is.
type Method uint8

// The methods. The zero value is none: an anonymous principal.
const (
	MethodUnix   Method = 1 // peer credentials of a unix socket
	MethodTLS    Method = 2 // a verified TLS client certificate
	MethodSystem Method = 3 // the service itself
)

// Authorizer decides whether a principal may do something. It is asked once per
// request and key, and asked again when the metadata changed while the request was
// being served; so an answer must depend on nothing but the question and the
// authorizer's own current rules. It must not block on I/O.
type Authorizer interface {
	// Authorize returns whether the principal may.
	Authorize(ctx context.Context, q *Question) Decision
}

// Question is what an Authorizer is asked.
type Question struct {
	Principal Principal
	Action    Action
	Namespace NamespaceName // zero for actions on the service as a whole
	Key       KeyName       // zero for actions on a namespace
	Labels    map[string]string
	Context   map[string]string // the encryption context
}

// Decision is an Authorizer's answer. The zero value denies.
type Decision struct {
	Allowed bool
	// Why is for the audit log, never for the caller.
	Why string
}

// Auditor keeps the record of what was done. Record returns when the record is as
// durable as the auditor promises; what was done is released to the caller only
// after that. An error makes the request fail with ErrAuditUnavailable. Record must
// not keep the event's slices.
type Auditor interface {
	Record(ctx context.Context, e *Event) error
}

// Event is one request: who, what, when, and what became of it, item by item. It
// holds no plaintext, no key material and no additional authenticated data.
type Event struct {
	Time      time.Time
	Principal Principal
	Action    Action
	Namespace NamespaceName
	// Resource is the full name of what a control operation acted on; empty for
	// data operations, whose items name key versions.
	Resource string
	// ImportJob is the job that a key version was to be imported by; zero: the event is of
	// no import.
	ImportJob ImportJobName
	// Reason is the reason that the caller gave.
	Reason  string
	Context map[string]string // the request's encryption context
	// Revision is the one of the metadata under which the final check was made, and
	// CheckedAt the reading of CLOCK_BOOTTIME that the check of the lease used; both
	// zero for what never came to a final check. The clock's readings of processes on
	// one machine can be compared.
	Revision  Revision
	CheckedAt time.Duration
	// Spread is how a change came to be known by all replicas; nil: it was no change.
	Spread *Spread
	// Err is the outcome of the request as a whole; nil if it was served, whatever
	// the outcomes of its items. What it failed with is the error of all of its items that have
	// none of their own.
	Err   error
	Items []ItemEvent
}

// ItemEvent is what became of one or several consecutive like items of a request.
type ItemEvent struct {
	Count   int               // how many consecutive items this stands for, at least 1
	Version VersionName       // that was used, or would have been; zero: none was found
	Target  VersionName       // that made the new ciphertext of a rewrap, or, where Err is set, would have; zero: none
	Context map[string]string // the items' own encryption context; nil: the request's
	Err     error             // nil: served
	// Verdict is what the items' verification came to; zero: nothing was verified.
	Verdict Verdict

	// version and target are what usage is counted of: those of Version, and of Target
	// if it has made a ciphertext.
	version, target *versionEntry
}

// Verdict is what the verification of a signature or MAC came to.
type Verdict uint8

// The verdicts. The zero value: nothing was verified.
const (
	VerdictValid   Verdict = 1
	VerdictInvalid Verdict = 2
)

// Finding is one thing that was examined for an operator.
type Finding struct {
	Area     string // token, store, replicas, self-test, keys
	Check    string // short and stable
	Severity Severity
	Detail   string
	Remedy   string
}

// Severity of a finding.
type Severity uint8

// The severities, in rising order.
const (
	SeverityOK      Severity = 1
	SeverityWarning Severity = 2
	SeverityError   Severity = 3
)
