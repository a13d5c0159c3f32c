package kms

import (
	"context"
	"sync"
)

// lockTable is a set of locks by name, of which only those held exist. The zero value
// is ready to use.
type lockTable[K comparable] struct {
	mu   sync.Mutex
	held map[K]*namedLock
}

type namedLock struct {
	turn    chan struct{} // holds one token while the lock is free
	waiting int           // holders and waiters
}

// lock waits for the lock of the name, or for the end of ctx. The function it returns
// unlocks.
func (t *lockTable[K]) lock(ctx context.Context, name K) (unlock func(), err error) {
	t.mu.Lock()
	if t.held == nil {
		t.held = make(map[K]*namedLock)
	}
	l := t.held[name]
	if l == nil {
		l = &namedLock{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		t.held[name] = l
	}
	l.waiting++
	t.mu.Unlock()

	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if l.waiting--; l.waiting == 0 {
			delete(t.held, name)
		}
	}
	select {
	case <-l.turn:
		return func() { l.turn <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
