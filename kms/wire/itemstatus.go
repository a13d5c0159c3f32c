package wire

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// ItemStatus is what the error of one item of a batch becomes on the wire. It tells what
// [ToStatus] tells, but for violations: of those the metadata names the first field. It
// returns nil for nil.
func ItemStatus(err error, report Report) *kmsv1.Status {
	if err == nil {
		return nil
	}
	f := faultOf(err, report)
	metadata := f.metadata
	if len(f.violations) > 0 {
		if metadata == nil {
			metadata = make(map[string]string, 1)
		}
		metadata["field"] = clip(f.violations[0].Field, maxMetaValue)
	}
	return &kmsv1.Status{
		Code:     int32(f.row.Code),
		Reason:   f.row.Reason,
		Message:  f.message,
		Metadata: metadata,
	}
}

// ItemError is the error that an item's status means: a [*kms.Error], an error that
// matches a context's error, or, for a reason that this side does not know, a gRPC
// status of the code. It returns nil for nil.
func ItemError(s *kmsv1.Status) error {
	if s == nil {
		return nil
	}
	bare := status.Error(codes.Code(uint32(max(s.GetCode(), 0))), s.GetMessage())
	if bare == nil {
		// A failure with code 0 breaks the contract, and must not pass for a success.
		bare = status.Error(codes.Unknown, s.GetMessage())
	}
	row := rowOfReason(s.GetReason())
	switch {
	case row == nil:
		return bare
	case isContextError(row.Sentinel):
		return &contextError{row.Sentinel, bare}
	default:
		e := &kms.Error{Sentinel: row.Sentinel, Message: s.GetMessage(), Metadata: s.GetMetadata(), Cause: bare}
		if field := s.GetMetadata()["field"]; field != "" {
			e.Violations = []kms.Violation{{Field: field, Description: s.GetMessage()}}
		}
		return e
	}
}

// maxStatusBytes is how much of a response the statuses of its items may fill before
// they become terse: 4,096 items refused for a reason of 1,024 bytes each would not fit
// into a message.
const maxStatusBytes = 1 << 20

// statusEncoder makes the item statuses of one response. Items that share one error, as
// those under one revoked version do, share one message.
type statusEncoder struct {
	report Report
	last   *kms.Error
	shared *kmsv1.Status
	spent  int
}

func (s *statusEncoder) encode(err error) *kmsv1.Status {
	if err == nil {
		return nil
	}
	e, ok := err.(*kms.Error) //nolint:errorlint // only to recognise the very same value again
	if !ok || e != s.last {
		s.last, s.shared = e, ItemStatus(err, s.report)
	}
	s.spent += sizeOf(s.shared)
	if s.spent > maxStatusBytes {
		return terse(s.shared)
	}
	return s.shared
}

// terse leaves only what the table of errors knows, and the identifier if there is one.
func terse(full *kmsv1.Status) *kmsv1.Status {
	short := &kmsv1.Status{Code: full.GetCode(), Reason: full.GetReason()}
	if row := rowOfReason(full.GetReason()); row != nil {
		short.Message = row.Sentinel.Error()
	}
	if id, ok := full.GetMetadata()["error_id"]; ok {
		short.Metadata = map[string]string{"error_id": id}
	}
	return short
}

// sizeOf estimates the encoded size of a status from above.
func sizeOf(s *kmsv1.Status) int {
	const overhead = 12 // tags and lengths
	n := overhead + len(s.GetReason()) + len(s.GetMessage())
	for key, value := range s.GetMetadata() {
		n += overhead + len(key) + len(value)
	}
	return n
}
