package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// scriptedToken answers each check with the next error.
type scriptedToken struct {
	t       *testing.T
	answers []error
	checked chan struct{}
}

func (s *scriptedToken) Check(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		s.t.Error("a check of the token may take for ever")
	}
	defer func() { s.checked <- struct{}{} }()
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer
}

func TestWatcher(t *testing.T) {
	gone := &kms.Error{Sentinel: kms.ErrTokenUnavailable, Message: "gone", Cause: errors.New("DEVICE_REMOVED")}
	token := &scriptedToken{t: t, answers: []error{nil, gone, gone, nil, nil}, checked: make(chan struct{}, 1)}
	var log bytes.Buffer
	var health []bool
	w := &watcher{
		service:    token,
		setServing: func(ok bool) { health = append(health, ok) },
		log:        slog.New(slog.NewTextHandler(&log, nil)),
	}
	ctx, cancel := context.WithCancel(t.Context())
	ticks := make(chan time.Time)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx, ticks)
	}()
	for range cap(token.answers) {
		ticks <- time.Time{}
		<-token.checked
	}
	cancel()
	<-done
	if want := []bool{true, false, false, true, true}; !slices.Equal(health, want) {
		t.Errorf("health %v, want %v", health, want)
	}
	if lost, back := strings.Count(log.String(), "nothing can be served"), strings.Count(log.String(), "can be served again"); lost != 1 || back != 1 {
		t.Errorf("logged %d losses and %d returns, want one each:\n%s", lost, back, &log)
	}
	if !strings.Contains(log.String(), "DEVICE_REMOVED") {
		t.Errorf("the log does not tell the cause:\n%s", &log)
	}
}

// At the end the token fails because it is closed: that is no news.
func TestWatcherAtTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	token := &scriptedToken{t: t, answers: []error{context.Canceled}, checked: make(chan struct{}, 1)}
	w := &watcher{
		service:    token,
		setServing: func(ok bool) { t.Errorf("health was set to %v", ok) },
		log:        slog.New(slog.DiscardHandler),
	}
	w.look(ctx)
	if w.failing {
		t.Error("the end was taken for a failure")
	}
}
