package grpcapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// receiveBackup returns all bytes of a backup, the longest chunk, and the report.
func receiveBackup(ctx context.Context, r *running) (all []byte, longest int, report *kms.StoreReport, err error) {
	stream, err := r.system().BackupStore(ctx, &kmsv1.BackupStoreRequest{})
	for err == nil {
		var m *kmsv1.BackupStoreResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		var chunk []byte
		if chunk, report, err = wire.DecodeBackupPart(m); err != nil {
			break
		}
		all = append(all, chunk...)
		longest = max(longest, len(chunk))
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, longest, report, err
}

func TestBackupComesInChunks(t *testing.T) {
	want := make([]byte, 5<<20+7)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	for name, size := range map[string]int{"small writes": 4 << 10, "at once": len(want)} {
		r := serve(t, Config{API: &fakeAPI{backup: func(_ context.Context, w io.Writer) (*kms.StoreReport, error) {
			for rest := want; len(rest) > 0; {
				n := min(size, len(rest))
				if _, err := w.Write(rest[:n]); err != nil {
					return nil, err
				}
				rest = rest[n:]
			}
			return &kms.StoreReport{StoreID: "s"}, nil
		}}})
		got, longest, report, err := receiveBackup(t.Context(), r)
		if err != nil || !bytes.Equal(got, want) || report == nil || report.StoreID != "s" {
			t.Errorf("%s: %d bytes, report %v, %v", name, len(got), report, err)
		}
		if longest > wire.MaxChunk || longest < backupBuffer {
			t.Errorf("%s: the longest chunk has %d bytes", name, longest)
		}
	}
}

// A backup that fails has no report, and says why.
func TestBackupFails(t *testing.T) {
	r := serve(t, Config{API: &fakeAPI{backup: func(_ context.Context, w io.Writer) (*kms.StoreReport, error) {
		if _, err := w.Write(make([]byte, backupBuffer+1)); err != nil {
			return nil, err
		}
		return nil, &kms.Error{Sentinel: kms.ErrStoreUnavailable}
	}}})
	_, _, report, err := receiveBackup(t.Context(), r)
	if report != nil || !errors.Is(wire.FromStatus(err), kms.ErrStoreUnavailable) {
		t.Errorf("report %v, %v", report, err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	begun := make(chan struct{})
	r := serve(t, Config{MaxInFlight: 1, MaxStreamDeadline: 500 * time.Millisecond, API: &fakeAPI{
		backup: func(ctx context.Context, _ io.Writer) (*kms.StoreReport, error) {
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}})
	done := make(chan error, 1)
	go func() {
		_, _, _, err := receiveBackup(t.Context(), r)
		done <- err
	}()
	<-begun
	_, _, _, err := receiveBackup(t.Context(), r)
	if !errors.Is(wire.FromStatus(err), kms.ErrOverloaded) {
		t.Errorf("a second stream: %v", err)
	}
	if err := <-done; status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("after the deadline: %v", err)
	}
}

// restore sends the messages and returns the answer.
func (r *running) restore(ctx context.Context, messages ...*kmsv1.RestoreStoreRequest) (*kmsv1.RestoreStoreResponse, error) {
	stream, err := r.system().RestoreStore(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if err := stream.Send(m); err != nil {
			break // the answer says why
		}
	}
	return stream.CloseAndRecv()
}

func TestRestore(t *testing.T) {
	var read []byte
	var asked kms.RestoreStoreRequest
	r := serve(t, Config{MaxRestoreBytes: 10, API: &fakeAPI{
		restore: func(_ context.Context, request *kms.RestoreStoreRequest) (*kms.StoreReport, error) {
			var err error
			asked = *request
			if read, err = io.ReadAll(request.Backup); err != nil {
				return nil, kms.Invalid(kms.Violation{Field: "backup", Description: "ends too early"})
			}
			return &kms.StoreReport{Revision: 4}, nil
		},
	}})
	options := wire.EncodeRestoreOptions(&kms.RestoreStoreRequest{Reason: "disk lost", AcceptRollback: true})
	chunk := func(s string) *kmsv1.RestoreStoreRequest { return wire.EncodeRestoreChunk([]byte(s)) }
	response, err := r.restore(t.Context(), options, chunk("01234"), chunk(""), chunk("56789"))
	if err != nil || response.GetReport().GetRevision() != 4 || string(read) != "0123456789" {
		t.Errorf("%v, %v; %q was read", response, err, read)
	}
	if asked.Reason != "disk lost" || !asked.AcceptRollback {
		t.Errorf("asked %+v", asked)
	}

	unknown := chunk("0")
	unknown.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
	for name, test := range map[string]struct {
		messages []*kmsv1.RestoreStoreRequest
		want     error
		field    string
	}{
		"nothing":        {nil, kms.ErrInvalidRequest, "options"},
		"no options":     {[]*kmsv1.RestoreStoreRequest{chunk("0")}, kms.ErrInvalidRequest, "options"},
		"options twice":  {[]*kmsv1.RestoreStoreRequest{options, options}, kms.ErrInvalidRequest, "chunk"},
		"unknown field":  {[]*kmsv1.RestoreStoreRequest{options, unknown}, kms.ErrInvalidRequest, "99"},
		"too many bytes": {[]*kmsv1.RestoreStoreRequest{options, chunk("012345"), chunk("56789")}, kms.ErrLimitExceeded, ""},
	} {
		_, err := r.restore(t.Context(), test.messages...)
		var e *kms.Error
		if err = wire.FromStatus(err); !errors.As(err, &e) || !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		} else if test.field != "" && (len(e.Violations) != 1 || e.Violations[0].Field != test.field) {
			t.Errorf("%s: violations %v", name, e.Violations)
		}
	}
}
