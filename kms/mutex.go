package kms

import "context"

// mutex is a lock for which one can wait with a context. Make it with newMutex.
type mutex chan struct{}

func newMutex() mutex { return make(mutex, 1) }

// lock waits for the lock, or for the end of ctx.
func (m mutex) lock(ctx context.Context) error {
	select {
	case m <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m mutex) unlock() { <-m }
