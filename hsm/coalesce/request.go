package coalesce

import (
	"context"
	"sync"
	"time"
)

// request is one caller that waits.
type request struct {
	// Set before it queues.
	ctx   context.Context
	size  int // bytes
	admit func() error

	// Guarded by Coalescer.mu.
	queued     time.Time
	line       *line // the queue it stands in, or nil
	prev, next *request
	number     uint64 // order of arrival
	alone      bool   // not to be merged

	// mu is held while admit, dst and src are used on behalf of the caller. It
	// guards what follows.
	mu       sync.Mutex
	dst, src []byte
	batch    *batch // whose call it is part of
	left     bool   // the caller has gone: admit, dst and src must not be used
	settled  bool   // err is the outcome, and done has it or soon will

	err  error
	done chan struct{} // has one element when settled
}

// newRequest returns a request that stands in no queue.
func (c *Coalescer) newRequest(ctx context.Context, dst, src []byte, admit func() error) *request {
	r, ok := c.requests.Get().(*request)
	if !ok {
		r = &request{done: make(chan struct{}, 1)}
	}
	r.ctx, r.size, r.admit = ctx, len(src), admit
	r.dst, r.src = dst[:len(src)], src
	return r
}

// recycle gives a request back. Nobody else may hold it.
func (c *Coalescer) recycle(r *request) {
	*r = request{done: r.done}
	c.requests.Put(r)
}

// await waits for the outcome of a queued request or the end of its context.
func (c *Coalescer) await(r *request) error {
	select {
	case <-r.done:
	case <-r.ctx.Done():
		if left, inFlight := r.leave(); left {
			err := r.ctx.Err()
			c.forget(r, inFlight, err)
			return err
		}
		<-r.done
	}
	err := r.err
	c.recycle(r)
	return err
}

// forget removes a request whose caller has left from the queue, if it is there.
func (c *Coalescer) forget(r *request, inFlight bool, err error) {
	c.mu.Lock()
	l, dropped := r.line, Event{Kind: EventDropped, Requests: 1, Bytes: r.size, Wait: time.Since(r.queued), Err: err}
	if l != nil {
		c.unqueue(r)
		c.refresh(l)
	}
	if inFlight {
		c.stats.Abandoned++
	} else {
		c.stats.Cancelled++
	}
	c.endIfDrained()
	c.mu.Unlock()
	if !inFlight {
		c.observe(dropped)
	}
	if l != nil {
		c.recycle(r) // no worker has it
	}
}

// leave ends the caller's part in a request, unless its outcome is there. Whoever
// holds the request then leaves the caller's buffers alone. It reports too whether
// the request was part of a call.
func (r *request) leave() (left, inFlight bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settled {
		return false, false
	}
	r.left = true
	if r.batch == nil {
		return true, false
	}
	r.batch.leave()
	return true, true
}

// settle ends a request. The caller holds r.mu, which settle releases; it must not
// touch r afterwards. A request whose caller has left has no outcome.
func (r *request) settle(err error) {
	r.batch = nil
	if r.left {
		r.mu.Unlock()
		return
	}
	r.err, r.settled = err, true
	r.mu.Unlock()
	r.done <- struct{}{} // has room: a request is settled once
}
