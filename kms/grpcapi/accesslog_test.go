package grpcapi

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/kms"
)

// linesOf is what is logged at a level of a request that takes three seconds and ends so.
func linesOf(t *testing.T, level slog.Level, outcome error) string {
	t.Helper()
	var lines bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: level}))
	synctest.Test(t, func(t *testing.T) {
		status := statusUnary(logger)
		info := &grpc.UnaryServerInfo{FullMethod: "/keyholt.kms.v1.CryptoService/Sign"}
		_, err := logUnary(logger)(t.Context(), "request", info, func(ctx context.Context, req any) (any, error) {
			return status(ctx, req, info, func(context.Context, any) (any, error) {
				<-time.After(3 * time.Second) // of the bubble's clock
				return "response", outcome
			})
		})
		if (err == nil) != (outcome == nil) {
			t.Errorf("the request ended with %v, want %v", err, outcome)
		}
	})
	return lines.String()
}

// Where successes are not logged, the lines about failures are the same as where they are.
func TestLinesAtEachLevel(t *testing.T) {
	failure := &kms.Error{Sentinel: kms.ErrStoreUnavailable, Message: "cannot write", Cause: errors.New("disk full")}
	want := linesOf(t, slog.LevelDebug, failure)
	for _, field := range []string{"level=WARN", "grpc.method=Sign", "grpc.duration=3s", "reason=STORE_UNAVAILABLE", `cause="disk full"`} {
		if !bytes.Contains([]byte(want), []byte(field)) {
			t.Errorf("no %s in %s", field, want)
		}
	}
	got := linesOf(t, slog.LevelInfo, failure)
	if fields(got) != fields(want) {
		t.Errorf("at the level info the log has\n%s\nat debug\n%s", fields(got), fields(want))
	}
	if line := linesOf(t, slog.LevelDebug, nil); line == "" {
		t.Error("a success has no line at the level debug")
	}
	if line := linesOf(t, slog.LevelInfo, nil); line != "" {
		t.Errorf("a success has a line at the level info: %s", line)
	}
}

// fields are those of a line, in the order of the alphabet.
func fields(line string) string {
	list := bytes.Fields([]byte(line))
	slices.SortFunc(list, bytes.Compare)
	return string(bytes.Join(list, []byte("\n")))
}
