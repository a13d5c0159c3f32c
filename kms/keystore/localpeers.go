package keystore

import (
	"context"
	"sync"
)

// localPeers is the peers of a store that one process has for itself: its locks exclude
// the other goroutines, and nobody ever wakes those who listen.
type localPeers struct {
	mu    sync.Mutex
	locks map[string]*localLock
}

// localLock is a lock that is held or waited for.
type localLock struct {
	held  chan struct{} // holds one value while the lock is held
	users int           // that hold it or wait for it
}

func newLocalPeers() *localPeers { return &localPeers{locks: make(map[string]*localLock)} }

// Lock waits for the lock.
func (p *localPeers) Lock(ctx context.Context, name string) (unlock func(), err error) {
	lock := p.join(name)
	select {
	case lock.held <- struct{}{}:
		return p.unlocker(name, lock), nil
	case <-ctx.Done():
		p.leave(name, lock)
		return nil, unavailable(ctx.Err(), "waited for the lock %s of the store: %v", name, ctx.Err())
	}
}

// TryLock takes the lock if it is free.
func (p *localPeers) TryLock(_ context.Context, name string) (unlock func(), ok bool, err error) {
	lock := p.join(name)
	select {
	case lock.held <- struct{}{}:
		return p.unlocker(name, lock), true, nil
	default:
		p.leave(name, lock)
		return nil, false, nil
	}
}

// Listen waits for the end of ctx.
func (p *localPeers) Listen(ctx context.Context, _ func()) { <-ctx.Done() }

// Close does nothing.
func (p *localPeers) Close() error { return nil }

func (p *localPeers) join(name string) *localLock {
	p.mu.Lock()
	defer p.mu.Unlock()
	lock := p.locks[name]
	if lock == nil {
		lock = &localLock{held: make(chan struct{}, 1)}
		p.locks[name] = lock
	}
	lock.users++
	return lock
}

func (p *localPeers) leave(name string, lock *localLock) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if lock.users--; lock.users == 0 {
		delete(p.locks, name)
	}
}

func (p *localPeers) unlocker(name string, lock *localLock) func() {
	return sync.OnceFunc(func() {
		<-lock.held
		p.leave(name, lock)
	})
}
