package wire

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	statusv1 "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// overTheWire sends a status and gives what a stub would return.
func overTheWire(t *testing.T, s *status.Status) error {
	t.Helper()
	encoded, err := proto.Marshal(s.Proto())
	if err != nil {
		t.Fatal(err)
	}
	var decoded statusv1.Status
	if err := proto.Unmarshal(encoded, &decoded); err != nil {
		t.Fatal(err)
	}
	return status.FromProto(&decoded).Err()
}

func TestEverySentinelOverTheWireAndBack(t *testing.T) {
	for _, row := range Rows() {
		t.Run(row.Reason, func(t *testing.T) {
			sent := &kms.Error{
				Sentinel:   row.Sentinel,
				Message:    "what happened",
				Metadata:   map[string]string{"key_version": "namespaces/a/keys/b/versions/1"},
				Violations: []kms.Violation{{Field: "items[3].key", Description: "is wrong"}},
				Cause:      errors.New("the disk said something"),
			}
			st := ToStatus(fmt.Errorf("wrapped: %w", sent), nil)
			if st.Code() != row.Code || st.Message() != "what happened" {
				t.Errorf("status %v: %q", st.Code(), st.Message())
			}
			if strings.Contains(st.Proto().String(), "disk") {
				t.Error("the cause is told")
			}
			got := FromStatus(overTheWire(t, st))
			checkIs(t, got, row.Sentinel)
			if Reason(got) != row.Reason {
				t.Errorf("reason %q", Reason(got))
			}
			if delay, ok := RetryDelay(got); ok != (row.Retry > 0) || delay != row.Retry {
				t.Errorf("retry after %v, %v; want %v", delay, ok, row.Retry)
			}
			if s, ok := status.FromError(got); !ok || s.Code() != row.Code {
				t.Errorf("the status is lost: %v", s)
			}
			var e *kms.Error
			if !errors.As(got, &e) {
				if !isContextError(row.Sentinel) {
					t.Fatalf("%T is not a *kms.Error", got)
				}
				return
			}
			if diff := cmp.Diff(sent.Metadata, e.Metadata); diff != "" {
				t.Errorf("metadata: %s", diff)
			}
			if diff := cmp.Diff(sent.Violations, e.Violations); diff != "" {
				t.Errorf("violations: %s", diff)
			}

			item := ItemError(ItemStatus(sent, nil))
			checkIs(t, item, row.Sentinel)
			if s, ok := status.FromError(item); !ok || s.Code() != row.Code {
				t.Errorf("the item's status is lost: %v", s)
			}

			// A bare sentinel, however wrapped, tells nothing of its wrapping.
			bare := ToStatus(fmt.Errorf("at /var/lib: %w", row.Sentinel), nil)
			checkIs(t, FromStatus(overTheWire(t, bare)), row.Sentinel)
			if strings.Contains(bare.Proto().String(), "/var/lib") {
				t.Error("the wrapping of a sentinel is told")
			}
		})
	}
}

// checkIs checks that an error matches one sentinel of the table, and no other.
func checkIs(t *testing.T, err, sentinel error) {
	t.Helper()
	for _, row := range Rows() {
		if want := row.Sentinel == sentinel; errors.Is(err, row.Sentinel) != want { //nolint:errorlint // identity is meant
			t.Errorf("errors.Is(%v, %v) = %v", err, row.Sentinel, !want)
		}
	}
}

func TestUnknownErrorsAreInternalAndToldToTheLogOnly(t *testing.T) {
	for name, err := range map[string]error{
		"plain":                     errors.New("secret detail"),
		"sentinel without a row":    &kms.Error{Sentinel: errors.New("secret detail"), Message: "secret detail"},
		"error without a sentinel":  &kms.Error{Message: "secret detail"},
		"status of somewhere else":  status.Error(codes.NotFound, "secret detail"),
		"wrapped and without a row": fmt.Errorf("secret detail: %w", errors.New("other")),
	} {
		t.Run(name, func(t *testing.T) {
			ids := make(map[string]error)
			report := func(id string, err error) { ids[id] = err }
			st := ToStatus(err, report)
			item := ItemStatus(err, report)
			if len(ids) != 2 {
				t.Fatalf("%d identifiers for two errors", len(ids))
			}
			for id, told := range ids {
				if len(id) != 16 || told == nil || told.Error() != err.Error() {
					t.Errorf("the log was told %q: %v", id, told)
				}
			}
			if st.Code() != codes.Internal || codes.Code(item.GetCode()) != codes.Internal {
				t.Errorf("codes %v and %v", st.Code(), codes.Code(item.GetCode()))
			}
			if strings.Contains(st.Proto().String()+item.String(), "secret") {
				t.Errorf("told: %v; %v", st.Proto(), item)
			}
			var e *kms.Error
			if got := FromStatus(overTheWire(t, st)); !errors.Is(got, ErrInternal) || !errors.As(got, &e) {
				t.Fatalf("came back as %v", got)
			}
			if _, known := ids[e.Metadata["error_id"]]; !known || !strings.Contains(e.Error(), e.Metadata["error_id"]) {
				t.Errorf("identifier %q in %q", e.Metadata["error_id"], e.Error())
			}
		})
	}
	// Without a log it must not fail.
	if ToStatus(errors.New("x"), nil).Code() != codes.Internal {
		t.Error("no INTERNAL without a report")
	}
}

func TestOtherStatusesPassThrough(t *testing.T) {
	if FromStatus(nil) != nil || ToStatus(nil, nil) != nil || ItemStatus(nil, nil) != nil || ItemError(nil) != nil {
		t.Error("nil does not stay nil")
	}
	plain := errors.New("no status at all")
	unavailable := status.Error(codes.Unavailable, "connection refused")
	for _, err := range []error{plain, unavailable, status.Error(codes.Unimplemented, "unknown method")} {
		if got := FromStatus(err); got != err { //nolint:errorlint // the very same
			t.Errorf("%v became %v", err, got)
		}
	}
	// What a stub returns when its own context ends has no details.
	for code, sentinel := range map[codes.Code]error{
		codes.Canceled: context.Canceled, codes.DeadlineExceeded: context.DeadlineExceeded,
	} {
		if got := FromStatus(status.Error(code, "x")); !errors.Is(got, sentinel) || status.Code(got) != code {
			t.Errorf("%v became %v", code, got)
		}
	}
	// A reason of a newer service keeps its code.
	newer := &kmsv1.Status{Code: int32(codes.FailedPrecondition), Reason: "SOMETHING_NEW", Message: "new"}
	if got := ItemError(newer); status.Code(got) != codes.FailedPrecondition || Reason(got) != "INTERNAL" {
		t.Errorf("newer reason: %v", got)
	}
	// A failure with code 0, or a nonsensical one, is a failure all the same.
	for _, code := range []int32{0, -1} {
		if ItemError(&kmsv1.Status{Code: code}) == nil {
			t.Errorf("a status with code %d is a success", code)
		}
	}
	if _, ok := RetryDelay(plain); ok {
		t.Error("a retry delay out of nothing")
	}
	if _, ok := RetryDelay(nil); ok {
		t.Error("a retry delay without an error")
	}
}

// gRPC wraps the last status in an error of its own when it has tried a call several times.
func TestMessageAfterRetries(t *testing.T) {
	sent := &kms.Error{Sentinel: kms.ErrStoreUnavailable, Message: "the metadata store cannot be written"}
	tried := fmt.Errorf("max retries exhausted: failed after 4 attempts: %w", overTheWire(t, ToStatus(sent, nil)))
	var e *kms.Error
	if got := FromStatus(tried); !errors.As(got, &e) || !errors.Is(got, kms.ErrStoreUnavailable) ||
		e.Error() != sent.Error() {
		t.Errorf("came back as %v", got)
	}
}

// Some implementations of gRPC take 8 KiB of trailers in all.
func TestStatusesFitIntoTrailers(t *testing.T) {
	long := strings.Repeat("\u00e9\xff", 40_000)
	e := &kms.Error{Sentinel: kms.ErrInvalidRequest, Message: long, Metadata: map[string]string{"state_reason": long}}
	for range kms.MaxItems {
		e.Violations = append(e.Violations, kms.Violation{Field: long, Description: long})
	}
	st := ToStatus(e, nil)
	if len(st.Proto().GetDetails()) != 2 {
		t.Fatalf("%d details", len(st.Proto().GetDetails()))
	}
	encoded, err := proto.Marshal(st.Proto())
	if err != nil {
		t.Fatal(err)
	}
	// The message travels twice, once percent-encoded.
	size := base64.RawStdEncoding.EncodedLen(len(encoded)) + 3*len(st.Message())
	if size > 7<<10 {
		t.Errorf("%d bytes of trailers", size)
	}
	var back *kms.Error
	if !errors.As(FromStatus(overTheWire(t, st)), &back) {
		t.Fatal("not a *kms.Error")
	}
	last := back.Violations[len(back.Violations)-1].Description
	if !strings.HasPrefix(last, "and 40") || !utf8.ValidString(back.Message) {
		t.Errorf("last violation %q", last)
	}
}

func TestViolationOfAnItemIsNamed(t *testing.T) {
	sent := kms.Invalid(kms.Violation{Field: "items[7].key", Description: "is wrong"})
	var got *kms.Error
	if !errors.As(ItemError(ItemStatus(sent, nil)), &got) || !errors.Is(got, kms.ErrInvalidRequest) {
		t.Fatal("not an invalid request")
	}
	if len(got.Violations) != 1 || got.Violations[0].Field != "items[7].key" {
		t.Errorf("violations %v", got.Violations)
	}
	if sent.Metadata != nil {
		t.Error("the error was changed")
	}
}
