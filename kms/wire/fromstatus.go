package wire

import (
	"context"
	"errors"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
)

// FromStatus makes the error that a stub returned into the one that the service meant,
// so that errors.Is answers alike on both sides of the wire:
//
//   - a status with a known reason of the service becomes a [*kms.Error] with the
//     sentinel, message, metadata and violations; INTERNAL has [ErrInternal];
//   - CANCELED and DEADLINE_EXCEEDED, whoever they come from, match [context.Canceled]
//     and [context.DeadlineExceeded];
//   - everything else, as what the transport reports, is returned as it is.
//
// The status stays reachable: status.FromError works on the result. It returns nil for
// nil.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := statusOf(err)
	if !ok {
		return err
	}
	details := st.Details()
	if row, info := knownReason(details); row != nil && !isContextError(row.Sentinel) {
		return &kms.Error{
			Sentinel:   row.Sentinel,
			Message:    st.Message(),
			Metadata:   info.GetMetadata(),
			Violations: violationsOf(details),
			Cause:      err,
		}
	}
	switch st.Code() {
	case codes.Canceled:
		return &contextError{context.Canceled, err}
	case codes.DeadlineExceeded:
		return &contextError{context.DeadlineExceeded, err}
	default:
		return err
	}
}

// statusOf is the status that the server sent. gRPC wraps it in an error of its own when
// it has tried a call several times, and status.FromError then gives that error's text
// as the message.
func statusOf(err error) (*status.Status, bool) {
	var sent interface{ GRPCStatus() *status.Status }
	if errors.As(err, &sent) {
		if st := sent.GRPCStatus(); st != nil {
			return st, true
		}
	}
	return status.FromError(err)
}

// RetryDelay is how long the service asks its caller to wait before the same call is
// made again. It reports false if the service did not ask.
func RetryDelay(err error) (time.Duration, bool) {
	st, ok := status.FromError(err)
	if !ok || st == nil {
		return 0, false
	}
	return retryDelay(st.Details())
}

func knownReason(details []any) (*Row, *errdetails.ErrorInfo) {
	for _, detail := range details {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return rowOfReason(info.GetReason()), info
		}
	}
	return nil, nil
}

func violationsOf(details []any) []kms.Violation {
	for _, detail := range details {
		bad, ok := detail.(*errdetails.BadRequest)
		if !ok {
			continue
		}
		violations := make([]kms.Violation, 0, len(bad.GetFieldViolations()))
		for _, v := range bad.GetFieldViolations() {
			violations = append(violations, kms.Violation{Field: v.GetField(), Description: v.GetDescription()})
		}
		return violations
	}
	return nil
}

func isContextError(sentinel error) bool {
	return errors.Is(sentinel, context.Canceled) || errors.Is(sentinel, context.DeadlineExceeded)
}

// contextError is a status that means the end of a context, on either side.
type contextError struct {
	sentinel error
	status   error
}

func (e *contextError) Error() string        { return e.sentinel.Error() }
func (e *contextError) Is(target error) bool { return target == e.sentinel }
func (e *contextError) Unwrap() error        { return e.status }
