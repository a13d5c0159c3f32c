package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyholt/keyholt/kms"
)

const (
	// watchInterval is how often the token is asked whether it answers.
	watchInterval = 3 * time.Second
	// watchTimeout is how long it has for an answer.
	watchTimeout = 5 * time.Second
)

// checker is the service, as far as its health goes.
type checker interface {
	Check(ctx context.Context) error
}

var _ checker = (*kms.Service)(nil)

// watcher reflects in the server's health whether the token answers.
type watcher struct {
	service    checker
	setServing func(bool)
	log        *slog.Logger
	failing    bool
}

// look asks the token once. It logs changes only: a token that stays away is said once.
func (w *watcher) look(ctx context.Context) {
	checkCtx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	err := w.service.Check(checkCtx)
	if ctx.Err() != nil {
		return // the end, not the token's failure
	}
	w.setServing(err == nil)
	switch {
	case err != nil && !w.failing:
		w.log.ErrorContext(ctx, "the token does not answer; health is NOT_SERVING", slog.String("error", explain(err)))
	case err == nil && w.failing:
		w.log.InfoContext(ctx, "the token answers again; health is SERVING")
	}
	w.failing = err != nil
}

// run looks at each tick until ctx ends.
func (w *watcher) run(ctx context.Context, tick <-chan time.Time) {
	for {
		select {
		case <-tick:
			w.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}
