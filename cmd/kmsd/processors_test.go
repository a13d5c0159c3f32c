package main

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// timedToken takes its time for random bytes.
type timedToken struct {
	takes []time.Duration // of each call, the last one again and again
	err   error
	calls int
}

func (f *timedToken) Random(ctx context.Context, _ []byte) error {
	takes := f.takes[min(f.calls, len(f.takes)-1)]
	f.calls++
	if takes == 0 {
		return f.err
	}
	select {
	case <-time.After(takes):
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Only a token that takes a millisecond for each of several calls is slow, and only where the
// environment says nothing does it matter.
func TestProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	log := slog.New(slog.DiscardHandler)
	for name, test := range map[string]struct {
		takes    []time.Duration
		sessions int
		variable string
		err      error
		want     int
	}{
		"fast":            {takes: []time.Duration{0}, sessions: 6, want: 2},
		"slow":            {takes: []time.Duration{5 * time.Millisecond}, sessions: 6, want: 4},
		"one session":     {takes: []time.Duration{5 * time.Millisecond}, sessions: 1, want: 3},
		"slow for once":   {takes: []time.Duration{5 * time.Millisecond, 0}, sessions: 6, want: 2},
		"said by someone": {takes: []time.Duration{5 * time.Millisecond}, sessions: 6, variable: "2", want: 2},
		"no answer":       {takes: []time.Duration{5 * time.Millisecond}, sessions: 6, err: hsm.ErrUnavailable, want: 2},
	} {
		t.Setenv("GOMAXPROCS", test.variable)
		runtime.GOMAXPROCS(2)
		tuneProcessors(t.Context(), &timedToken{takes: test.takes, err: test.err}, test.sessions, log)
		if got := runtime.GOMAXPROCS(0); got != test.want {
			t.Errorf("%s: %d processors, want %d", name, got, test.want)
		}
	}
}
