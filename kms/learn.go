package kms

import (
	"context"
	"errors"
	"time"
)

// learnPause is the least time between two looks at the store for versions that this
// replica does not know. Who sends ciphertexts that name none cannot cause more.
const learnPause = 10 * time.Millisecond

// learnPatience is how long the other items of a request wait until it is known whether a
// version was made elsewhere.
const learnPatience = time.Second

// learning takes turns at looking at the store for what this replica does not know.
type learning struct {
	turn  mutex
	began time.Duration // the last look, by the clock of the lease
}

// learn catches up with the store. Calls that wait for their turn share a look that
// begins after they came. It is ErrStoreUnavailable if the look does not end.
func (r *replica) learn(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, learnPatience)
	defer cancel()
	err := r.learnInTurn(bounded)
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return errorf(ErrStoreUnavailable, "the metadata store does not tell in time whether another replica has made the key version").
			because(err)
	}
	return err
}

func (r *replica) learnInTurn(ctx context.Context) error {
	came := r.config.Clock()
	if err := r.learning.turn.lock(ctx); err != nil {
		return err
	}
	defer r.learning.turn.unlock()
	if r.learning.began > came {
		return nil
	}
	if rest := r.learning.began + learnPause - r.config.Clock(); r.learning.began != 0 && rest > 0 {
		timer := time.NewTimer(rest)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.learning.began = r.config.Clock()
	return r.service.refresh(ctx)
}
