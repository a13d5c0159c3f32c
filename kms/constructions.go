package kms

import (
	"context"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

const (
	// constructionsAtWork is how many rows and token objects are made at once. The token
	// makes one object after the other; what else there is to a construction, the commits
	// around it, can be done beside that.
	constructionsAtWork = 4
	// constructionsAtMost is how many are at work or wait. It is far below the number of
	// requests that are served at once, so that waiting for RSA keys never keeps a replica
	// from its data operations.
	constructionsAtMost = 64
)

// constructions bounds what is constructed in this process. What is begun goes on without
// its caller, so a caller that asked and left, many times, must not find it all begun: it
// would keep everybody else's keys from being made.
type constructions struct {
	slots *semaphore.Weighted
	asked atomic.Int32
}

func newConstructions() *constructions {
	return &constructions{slots: semaphore.NewWeighted(constructionsAtWork)}
}

// enter waits for a turn, first come, first served. The function it returns ends the turn.
// The error is ErrOverloaded, or that of ctx; then nothing was begun.
func (c *constructions) enter(ctx context.Context) (leave func(), err error) {
	if c.asked.Add(1) > constructionsAtMost {
		c.asked.Add(-1)
		return nil, tooManyConstructions()
	}
	if err := c.slots.Acquire(ctx, 1); err != nil {
		c.asked.Add(-1)
		return nil, err
	}
	return func() {
		c.slots.Release(1)
		c.asked.Add(-1)
	}, nil
}

// refusal is what enter would refuse at once now; nil: nothing.
func (c *constructions) refusal() error {
	if c.asked.Load() >= constructionsAtMost {
		return tooManyConstructions()
	}
	return nil
}

func tooManyConstructions() *Error {
	return errorf(ErrOverloaded, "too many keys and import jobs are being made")
}
