package pkcs11hsm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// errPoolClosed is what acquire returns after close.
var errPoolClosed = errors.New("session pool is closed")

// pool is a bounded set of things that are expensive to open and may be used by one
// goroutine at a time: PKCS#11 sessions. It hands out the one that came back last,
// so that unneeded ones stay idle and a warm one is reused. A thing that was
// poisoned, or that belongs to an older generation, is closed instead of being
// handed out again, and another is opened when it is needed.
type pool[S any] struct {
	open  func(context.Context) (S, error)
	close func(S)

	slots  seats         // shared by all
	kept   seats         // kept for lanes, beside the slots
	closed chan struct{} // closed by shut

	mu         sync.Mutex
	idle       []S
	generation atomic.Uint64 // changed under mu
	isClosed   bool
}

// seats are how many things may be in use: one element for each that is.
type seats chan struct{}

// lease is the right to use one thing until release.
type lease[S any] struct {
	pool       *pool[S]
	from       seats
	value      S
	generation uint64
	poisoned   bool
}

// newPool returns a pool of at most size things, and kept more for lanes. open and close
// are called from the goroutine that needs them.
func newPool[S any](size, kept int, open func(context.Context) (S, error), closeOne func(S)) *pool[S] {
	return &pool[S]{
		open:   open,
		close:  closeOne,
		slots:  make(seats, size),
		kept:   make(seats, kept),
		closed: make(chan struct{}),
	}
}

// size is the most things that the pool holds.
func (p *pool[S]) size() int { return cap(p.slots) + cap(p.kept) }

// fill opens n things, one after another. It returns how many it has opened and the error
// that stopped it.
func (p *pool[S]) fill(ctx context.Context, n int) (int, error) {
	for opened := range n {
		s, err := p.open(ctx)
		if err != nil {
			return opened, err
		}
		p.mu.Lock()
		p.idle = append(p.idle, s)
		p.mu.Unlock()
	}
	return n, nil
}

// shrink lowers the number of things for good. It must come before the first acquire.
func (p *pool[S]) shrink(size, kept int) {
	p.slots, p.kept = make(seats, size), make(seats, kept)
}

// idleNow is how many things are idle.
func (p *pool[S]) idleNow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle)
}

// trim closes idle things until there are no more than n.
func (p *pool[S]) trim(n int) {
	p.mu.Lock()
	var tooMany []S
	if len(p.idle) > n {
		tooMany = slices.Clone(p.idle[n:])
		clear(p.idle[n:])
		p.idle = p.idle[:n]
	}
	p.mu.Unlock()
	for _, s := range tooMany {
		p.close(s)
	}
}

// acquire waits for a thing, of the pool's slots or of those kept. Its errors are ctx's,
// errPoolClosed, and those of open.
func (p *pool[S]) acquire(ctx context.Context, from seats) (lease[S], error) {
	if err := ctx.Err(); err != nil {
		return lease[S]{}, err
	}
	select {
	case from <- struct{}{}: // without waiting, which costs a fraction of what follows
	default:
		select {
		case from <- struct{}{}:
		case <-ctx.Done():
			return lease[S]{}, ctx.Err()
		case <-p.closed:
			return lease[S]{}, errPoolClosed
		}
	}
	p.mu.Lock()
	if p.isClosed {
		p.mu.Unlock()
		<-from
		return lease[S]{}, errPoolClosed
	}
	l := lease[S]{pool: p, from: from, generation: p.generation.Load()}
	if n := len(p.idle); n > 0 {
		l.value = p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return l, nil
	}
	p.mu.Unlock()
	s, err := p.open(ctx)
	if err != nil {
		<-from
		return lease[S]{}, err
	}
	l.value = s
	return l, nil
}

// poison makes release close the thing instead of keeping it.
func (l *lease[S]) poison() { l.poisoned = true }

// release gives the thing back. It is called exactly once.
func (l *lease[S]) release() {
	p := l.pool
	p.mu.Lock()
	keep := !l.poisoned && !p.isClosed && l.generation == p.generation.Load()
	if keep {
		p.idle = append(p.idle, l.value)
	}
	p.mu.Unlock()
	if !keep {
		p.close(l.value)
	}
	<-l.from
}

// invalidate begins a new generation if generation is still the current one: what
// is idle is closed, what is in use is closed when it comes back. It reports
// whether it did, so that many who see the same loss cause one renewal.
func (p *pool[S]) invalidate(generation uint64) bool {
	p.mu.Lock()
	if p.generation.Load() != generation || p.isClosed {
		p.mu.Unlock()
		return false
	}
	p.generation.Add(1)
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, s := range idle {
		p.close(s)
	}
	return true
}

// isShut reports whether no more leases are given.
func (p *pool[S]) isShut() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// inUse is how many things are in use.
func (p *pool[S]) inUse() int { return len(p.slots) + len(p.kept) }

// current is the current generation.
func (p *pool[S]) current() uint64 { return p.generation.Load() }

// shut refuses new leases, waits for those out to come back, and closes everything.
// Only the first call does anything.
func (p *pool[S]) shut() {
	p.mu.Lock()
	if p.isClosed {
		p.mu.Unlock()
		return
	}
	p.isClosed = true
	p.mu.Unlock()
	close(p.closed)
	for _, all := range []seats{p.slots, p.kept} {
		for range cap(all) {
			all <- struct{}{}
		}
	}
	for _, s := range p.idle {
		p.close(s)
	}
	p.idle = nil
}
