package kms

import (
	"context"
	"sync"
	"time"
)

// patience gives contexts for what goes on without its caller and happens on every request:
// a context with a timer of its own would cost more than the work. Those that begin within
// patienceStep share one deadline, so that it is changeTimeout or up to patienceStep more
// after each began. The zero value is ready.
type patience struct {
	mu     sync.Mutex
	shared context.Context
	renew  time.Time // when shared is too near its end for whoever comes
}

const patienceStep = time.Second

// detached is as the function of that name, and there is nothing to cancel.
func (p *patience) detached(ctx context.Context) context.Context {
	return detachedContext{Context: ctx, shared: p.current()}
}

// current is the context whose deadline the next one gets.
func (p *patience) current() context.Context {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shared == nil || !now.Before(p.renew) {
		p.renew = now.Add(patienceStep)
		shared, cancel := context.WithDeadline(context.Background(), p.renew.Add(changeTimeout))
		context.AfterFunc(shared, cancel) // nothing ends it before its time
		p.shared = shared
	}
	return p.shared
}

// detachedContext has the values of one context and the end of another.
type detachedContext struct {
	context.Context
	shared context.Context
}

// Deadline implements [context.Context], as do the methods that follow.
func (c detachedContext) Deadline() (time.Time, bool) { return c.shared.Deadline() }

// Done is closed when the shared deadline has passed.
func (c detachedContext) Done() <-chan struct{} { return c.shared.Done() }

// Err tells whether it has passed.
func (c detachedContext) Err() error { return c.shared.Err() }

// Value asks the shared context first: it has no values but what package context asks for
// to find out which context ends this one, and why.
func (c detachedContext) Value(key any) any {
	if value := c.shared.Value(key); value != nil {
		return value
	}
	return c.Context.Value(key)
}
