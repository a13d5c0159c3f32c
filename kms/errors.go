package kms

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// The sentinel errors of the domain. Every error that a method of [Service] returns,
// for a request or for one item of it, is an [*Error] that matches exactly one of
// them with errors.Is, or a context's error. Package wire holds the table that gives
// each its gRPC code and reason; docs/errors.md is generated from that table.
var (
	// ErrInvalidRequest: a field is missing, out of range or does not parse;
	// Error.Violations say which.
	ErrInvalidRequest = errors.New("invalid request")
	// ErrLimitExceeded: the request has more items or bytes than the published limit.
	ErrLimitExceeded = errors.New("limit exceeded")
	// ErrMalformedCiphertext: the bytes are not a ciphertext of this service, or not one of
	// the length that the key's modulus gives it.
	ErrMalformedCiphertext = errors.New("malformed ciphertext")
	// ErrCiphertextKind: a wrapped data key was given to Decrypt, or encrypted data
	// to UnwrapDataKeys.
	ErrCiphertextKind = errors.New("wrong kind of ciphertext")
	// ErrDigestLength: the digest is not as long as the hash of the key's algorithm makes it.
	ErrDigestLength = errors.New("wrong length of the digest")
	// ErrHashMismatch: the digest is of another hash than that of the key's algorithm, or
	// the algorithm signs messages and takes no digest.
	ErrHashMismatch = errors.New("digest does not fit the algorithm")
	// ErrRequestIDReused: the request id belongs to an earlier call with other fields.
	ErrRequestIDReused = errors.New("request id was used for another request")

	// ErrUnauthenticated: the caller has not proved who it is.
	ErrUnauthenticated = errors.New("not authenticated")
	// ErrNotAccessible: the key (version) does not exist in the namespace, or the
	// caller may not use it. One error for both, so that nothing can be learned.
	ErrNotAccessible = errors.New("not accessible")

	// ErrNamespaceNotFound: the namespace does not exist (told to the authorised only,
	// as are the next two).
	ErrNamespaceNotFound = errors.New("namespace not found")
	// ErrKeyNotFound: the key does not exist.
	ErrKeyNotFound = errors.New("key not found")
	// ErrVersionNotFound: the key version does not exist.
	ErrVersionNotFound = errors.New("key version not found")
	// ErrNamespaceExists: a namespace of that name exists already.
	ErrNamespaceExists = errors.New("namespace exists")
	// ErrKeyExists: a key of that name exists already.
	ErrKeyExists = errors.New("key exists")

	// ErrImportJobNotFound: the import job does not exist.
	ErrImportJobNotFound = errors.New("import job not found")
	// ErrImportJobExists: an import job of that name exists already.
	ErrImportJobExists = errors.New("import job exists")
	// ErrImportJobExpired: the time of the import job has passed.
	ErrImportJobExpired = errors.New("import job has expired")
	// ErrImportJobUnavailable: the wrapping key of the import job is missing, or is not the
	// one that was made for it.
	ErrImportJobUnavailable = errors.New("import job is unavailable")
	// ErrWrappedKey: a wrapped key does not open with the wrapping key of the import job,
	// or is not of the key's algorithm. One error for all that may be wrong with it.
	ErrWrappedKey = errors.New("wrapped key cannot be imported")

	// ErrPurpose: the key's purpose does not allow the operation.
	ErrPurpose = errors.New("the key is for another purpose")
	// ErrKeyMismatch: the ciphertext was made by another key than the request names.
	ErrKeyMismatch = errors.New("ciphertext belongs to another key")
	// ErrVersionCreating: the version's token object is not confirmed yet.
	ErrVersionCreating = errors.New("key version is being created")
	// ErrVersionDisabled: the version is disabled.
	ErrVersionDisabled = errors.New("key version is disabled")
	// ErrVersionRevoked: the version was revoked and will never work again.
	ErrVersionRevoked = errors.New("key version is revoked")
	// ErrVersionRewrapOnly: the version is under suspicion: what it protects can be
	// rewrapped and nothing else.
	ErrVersionRewrapOnly = errors.New("key version is for rewrapping only")
	// ErrVersionDestroyScheduled: the version is to be destroyed at a set time; it can
	// be restored until then.
	ErrVersionDestroyScheduled = errors.New("key version is scheduled for destruction")
	// ErrVersionDestroyed: the version's token object was destroyed.
	ErrVersionDestroyed = errors.New("key version is destroyed")
	// ErrVersionUnavailable: the version's token object is missing, or is not the one
	// that was made for it.
	ErrVersionUnavailable = errors.New("key version is unavailable")
	// ErrNoEnabledPrimary: the key has no primary version that could make new ciphertext.
	ErrNoEnabledPrimary = errors.New("key has no enabled primary version")
	// ErrTransition: the version's state does not lead to the one asked for.
	ErrTransition = errors.New("state transition not allowed")
	// ErrRotationDue: the version is older than the rotation period of its key, so that the
	// key would be rotated as soon as the version is primary.
	ErrRotationDue = errors.New("rotation is due")
	// ErrDataLoss: the version was used; revoking it loses what it protects, and the
	// caller has not accepted that.
	ErrDataLoss = errors.New("data loss was not accepted")
	// ErrEncryptionLimit: a STRICT version has made as many ciphertexts as its nonces allow.
	ErrEncryptionLimit = errors.New("encryption limit of the key version is reached")
	// ErrUnsupported: the token cannot do it.
	ErrUnsupported = errors.New("not supported by the token")
	// ErrTokenRefused: the token forbids this use of the key object although the
	// metadata allows it: it was switched off behind the service's back.
	ErrTokenRefused = errors.New("the token refuses the use of the key")

	// ErrDecryptionFailed: authentication failed: the ciphertext was changed, or the
	// encryption context or additional authenticated data differ. One error for all.
	ErrDecryptionFailed = errors.New("decryption failed")

	// ErrEtagMismatch: the resource has changed since the caller read it.
	ErrEtagMismatch = errors.New("etag does not match")
	// ErrConflict: another change came between; the request may be repeated.
	ErrConflict = errors.New("concurrent change")

	// ErrTokenUnavailable: the token does not answer.
	ErrTokenUnavailable = errors.New("token unavailable")
	// ErrStoreUnavailable: the metadata store cannot be read or written.
	ErrStoreUnavailable = errors.New("store unavailable")
	// ErrAuditUnavailable: the audit log cannot be written; without it nothing is released.
	ErrAuditUnavailable = errors.New("audit log unavailable")
	// ErrOverloaded: too much is under way; nothing was begun.
	ErrOverloaded = errors.New("overloaded")
	// ErrShuttingDown: the service is draining.
	ErrShuttingDown = errors.New("shutting down")

	// ErrStillSpreading: the change is committed, and not every replica is known to
	// have applied it or to have stopped; the call may be repeated to wait on.
	ErrStillSpreading = errors.New("change is committed and still spreading")
	// ErrLeaseLapsed: this replica cannot be sure to know the newest metadata, so it
	// serves nothing.
	ErrLeaseLapsed = errors.New("lease of the replica has lapsed")
	// ErrLeaseGone: the lease row was removed or renewed by somebody else. It never
	// reaches a caller.
	ErrLeaseGone = errors.New("lease row is gone")
	// ErrStoreWentBack: the store is at an earlier revision than this replica has
	// applied, as after a fail-over that lost commits.
	ErrStoreWentBack = errors.New("store went backwards")
	// ErrRolledBack: the store is older than the newest head that was noted outside of
	// it. The service does not start unless an operator accepts it.
	ErrRolledBack = errors.New("store was rolled back")
	// ErrRollbackAccepted: the operation cannot be trusted after a roll-back.
	ErrRollbackAccepted = errors.New("refused after a roll-back")
	// ErrStoreNotEmpty: a backup can be restored only into a store that holds no keys.
	ErrStoreNotEmpty = errors.New("store is not empty")

	// ErrTampered: a row of the store does not carry the seal it should, or the set of
	// rows is not the one that was sealed. The service does not start.
	ErrTampered = errors.New("metadata was tampered with")
	// ErrStoreLocked: another process has the store open.
	ErrStoreLocked = errors.New("store is in use by another process")
)

// Error is an error of the domain: a sentinel, what there is to say about it, and
// details that a program can read. It holds no secrets.
type Error struct {
	Sentinel   error
	Message    string            // for a person; empty: the sentinel's text
	Metadata   map[string]string // for a program; keys are lower_snake_case
	Violations []Violation       // for ErrInvalidRequest and ErrLimitExceeded
	Cause      error             // for the log; never shown to a caller
}

// Violation names a request field, in the words of the API, and what is wrong with it.
type Violation struct {
	Field       string
	Description string
}

// Error returns the message without the cause.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Sentinel.Error()
	}
	return e.Message
}

// Is makes errors.Is match the sentinel.
func (e *Error) Is(target error) bool { return e.Sentinel == target }

// Unwrap returns the cause, for the log.
func (e *Error) Unwrap() error { return e.Cause }

// errorf makes an Error from a sentinel and a message for the caller.
func errorf(sentinel error, format string, args ...any) *Error {
	return &Error{Sentinel: sentinel, Message: fmt.Sprintf(format, args...)}
}

// with returns a copy of e with one more detail.
func (e *Error) with(key, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = make(map[string]string, 4)
	}
	c.Metadata[key] = value
	return &c
}

// because returns a copy of e with a cause.
func (e *Error) because(cause error) *Error {
	c := *e
	c.Cause = cause
	return &c
}

// Invalid is the error of a request with malformed fields.
func Invalid(violations ...Violation) *Error {
	message := "invalid request"
	if len(violations) > 0 {
		message = violations[0].Field + ": " + violations[0].Description
	}
	return &Error{Sentinel: ErrInvalidRequest, Message: message, Violations: violations}
}

// tooMuch is the error of a request beyond a published limit.
func tooMuch(field, format string, args ...any) *Error {
	description := fmt.Sprintf(format, args...)
	return &Error{
		Sentinel:   ErrLimitExceeded,
		Message:    field + ": " + description,
		Violations: []Violation{{field, description}},
	}
}

// timeText is how times appear in messages and metadata: RFC 3339 in UTC.
func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }
