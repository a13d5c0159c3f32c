package wire

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keyholt/keyholt/kms"
)

// Report is told of each error that leaves the service as INTERNAL: the identifier that
// the caller gets, and the error that the caller does not see. It may be nil.
type Report func(id string, err error)

// A status travels in response trailers, of which some gRPC implementations take 8 KiB
// in all, base64 included: so the parts that a caller or an operator chose are bounded.
const (
	maxMessage    = 512  // bytes of a message
	maxMetaValue  = 1024 // bytes of one value of the metadata
	maxViolations = 1536 // bytes of all violations
)

// ToStatus is what an error of the service becomes on the wire: the code of its row, its
// message, a google.rpc.ErrorInfo with reason, domain and metadata, a BadRequest if it
// has violations, and a RetryInfo if its row has a delay. An error without a row becomes
// INTERNAL with a random identifier, and nothing more is told. It returns nil for nil.
func ToStatus(err error, report Report) *status.Status {
	if err == nil {
		return nil
	}
	f := faultOf(err, report)
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: f.row.Reason, Domain: Domain, Metadata: f.metadata},
	}
	if len(f.violations) > 0 {
		details = append(details, badRequest(f.violations))
	}
	if f.row.Retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(f.row.Retry)})
	}
	bare := status.New(f.row.Code, f.message)
	full, err := bare.WithDetails(details...)
	if err != nil {
		// Only a detail that cannot be marshalled, and every string was made valid.
		return bare
	}
	return full
}

// fault is what may be told of an error.
type fault struct {
	row        *Row
	message    string
	metadata   map[string]string
	violations []kms.Violation
}

func faultOf(err error, report Report) fault {
	row, e := rowOf(err)
	switch {
	case e != nil:
		return fault{row, clip(e.Error(), maxMessage), clipValues(e.Metadata), e.Violations}
	case row.Code == codes.Internal:
		id := errorID()
		if report != nil {
			report(id, err)
		}
		return fault{row, "internal error " + id, map[string]string{"error_id": id}, nil}
	default:
		// A bare sentinel or a context's error. Its wrapping was not written for callers.
		return fault{row, row.Sentinel.Error(), nil, nil}
	}
}

// errorID is 16 random hexadecimal digits.
func errorID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process first
	return hex.EncodeToString(id[:])
}

func badRequest(violations []kms.Violation) *errdetails.BadRequest {
	b := &errdetails.BadRequest{}
	left := maxViolations
	for i, v := range violations {
		field, description := clip(v.Field, 200), clip(v.Description, 400)
		left -= len(field) + len(description)
		if left < 0 {
			b.FieldViolations = append(b.FieldViolations, &errdetails.BadRequest_FieldViolation{
				Description: fmt.Sprintf("and %d more", len(violations)-i),
			})
			break
		}
		b.FieldViolations = append(b.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: field, Description: description,
		})
	}
	return b
}

func clipValues(metadata map[string]string) map[string]string {
	if len(metadata) == 0 {
		return nil
	}
	clipped := make(map[string]string, len(metadata))
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		clipped[clip(key, 64)] = clip(metadata[key], maxMetaValue)
	}
	return clipped
}

// clip bounds a text, and makes it valid UTF-8, which proto strings must be.
func clip(s string, most int) string {
	whole := len(s) <= most
	s = strings.ToValidUTF8(s[:min(len(s), most)], "\uFFFD") // which may be longer again
	if whole && len(s) <= most {
		return s
	}
	cut := min(len(s), most-len("..."))
	for cut > 0 && cut < len(s) && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// retryDelay reads a RetryInfo.
func retryDelay(details []any) (time.Duration, bool) {
	for _, detail := range details {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration(), true
		}
	}
	return 0, false
}
