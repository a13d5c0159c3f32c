package coalesce

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// work runs a batch and what may start after it, until nothing may. There are at
// most Config.MaxCalls workers, and none while no request is queued.
func (c *Coalescer) work(b *batch) {
	for b != nil {
		b = c.run(b)
	}
}

// run serves a batch and returns the next one. A token that panics or ends the
// goroutine leaves nobody waiting.
func (c *Coalescer) run(b *batch) (next *batch) {
	if !b.fill(c) {
		return c.served(b, outcome{})
	}
	o := outcome{requests: len(b.members), bytes: b.filled}
	start := time.Now()
	finished := false
	defer func() {
		value := recover()
		o.elapsed = time.Since(start)
		if !finished {
			o.err, o.panicked = panicked("token call", value), true
		}
		next = c.served(b, o)
		if !finished && value == nil {
			go c.work(next) // this goroutine ends, whatever is returned
		}
	}()
	o.err = shared(c.inner.EncryptBlocks(b.ctx, b.key, b.dst[:b.filled], b.src[:b.filled]))
	finished = true
	return nil
}

// shared is the error of a merged call as its members see it: the end of a context
// that is not theirs is the token's failure to answer.
func shared(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %v", hsm.ErrUnavailable, err)
	}
	return err
}

// served hands out what came of a batch, and takes the next. What the token refuses
// as malformed may be so because of its length: each member is tried alone.
func (c *Coalescer) served(b *batch, o outcome) (next *batch) {
	var again []*request
	if errors.Is(o.err, hsm.ErrArgument) && len(b.members) > 1 {
		again = b.release()
	} else {
		b.deliver(o.err)
	}
	now := time.Now()
	c.mu.Lock()
	c.stats.Cancelled += b.cancelled
	c.stats.Refused += b.refused
	for _, m := range b.members {
		c.stats.Waits++
		c.stats.WaitTime += m.wait
	}
	c.separate(b.line, again, now)
	next = c.ended(b.line, o, now)
	c.mu.Unlock()
	for _, m := range b.members {
		c.observe(Event{
			Kind: EventRequest, Context: m.ctx, Requests: 1, Bytes: m.size, Wait: m.wait, Call: o.elapsed, Err: o.err,
		})
	}
	c.observeCall(o)
	c.discard(b)
	return next
}

// separate queues requests once more, each to go alone, before all others. The
// caller holds c.mu and refreshes the line.
func (c *Coalescer) separate(l *line, requests []*request, now time.Time) {
	for i := len(requests) - 1; i >= 0; i-- {
		r := requests[i]
		r.alone, r.queued = true, now
		c.queue(r, l.pushFront)
	}
	c.stats.Separated += uint64(len(requests))
}
