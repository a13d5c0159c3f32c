package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyholt/keyholt/kms"
)

const (
	// watchInterval is how often the token is asked whether it answers, and the lease
	// is looked at.
	watchInterval = time.Second
	// watchTimeout is how long the token has for an answer.
	watchTimeout = 5 * time.Second
)

// checker is the service, as far as its health goes.
type checker interface {
	Check(ctx context.Context) error
}

var _ checker = (*kms.Service)(nil)

// watcher reflects in the server's health whether it can serve: whether the token answers
// and the lease is valid.
type watcher struct {
	service    checker
	setServing func(bool)
	log        *slog.Logger
	failing    bool
}

// look asks once. It logs changes only: a token that stays away is said once.
func (w *watcher) look(ctx context.Context) {
	checkCtx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	err := w.service.Check(checkCtx)
	if ctx.Err() != nil {
		return // the end, not the service's failure
	}
	w.setServing(err == nil)
	switch {
	case err != nil && !w.failing:
		w.log.ErrorContext(ctx, "nothing can be served now; health is NOT_SERVING", slog.String("error", explain(err)))
	case err == nil && w.failing:
		w.log.InfoContext(ctx, "everything can be served again; health is SERVING")
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
