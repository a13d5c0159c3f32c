package coalesce

import (
	"container/heap"
	"fmt"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// The functions of this file are called with c.mu held, but for wake.

// maxSpare is how many idle lines are kept for reuse.
const maxSpare = 256

// lineOf returns the line of a key, a new one if the key is idle.
func (c *Coalescer) lineOf(key hsm.UID) *line {
	l := c.lines[key]
	if l != nil {
		return l
	}
	if n := len(c.spare); n > 0 {
		l, c.spare = c.spare[n-1], c.spare[:n-1]
	} else {
		l = &line{at: -1}
	}
	l.key = key
	c.lines[key] = l
	return l
}

// refuse tells why a request of size bytes may not queue, or nil. One key may take
// half the room, so that it cannot have others refused.
func (c *Coalescer) refuse(l *line, size int) error {
	s := &c.stats
	if s.QueueRequests > 0 && (s.QueueRequests >= c.cfg.MaxQueueRequests || s.QueueBytes+size > c.cfg.MaxQueueBytes) ||
		l.first != nil && (2*l.waiting >= c.cfg.MaxQueueRequests || 2*(l.bytes+size) > c.cfg.MaxQueueBytes) {
		s.Rejected++
		c.refresh(l) // it may be new
		return fmt.Errorf("%w: %d requests, %d bytes", hsm.ErrBusy, s.QueueRequests, s.QueueBytes)
	}
	return nil
}

// queue puts a request into a queue with push, and counts it.
func (c *Coalescer) queue(r *request, push func(*request)) {
	push(r)
	s := &c.stats
	s.QueueRequests++
	s.QueueBytes += r.size
	s.MaxQueueRequests = max(s.MaxQueueRequests, s.QueueRequests)
	s.MaxQueueBytes = max(s.MaxQueueBytes, s.QueueBytes)
}

// unqueue takes a request out of its queue.
func (c *Coalescer) unqueue(r *request) {
	r.line.remove(r)
	c.stats.QueueRequests--
	c.stats.QueueBytes -= r.size
}

// refresh puts a line where it belongs after its queue or its calls changed: among
// the ready ones, out of them, or out of being. It starts nothing.
func (c *Coalescer) refresh(l *line) {
	ready := l.first != nil && l.calls < c.callsPerKey() && !l.gathering
	switch {
	case ready && l.at < 0:
		heap.Push(&c.ready, l)
	case ready:
		heap.Fix(&c.ready, l.at)
	case l.at >= 0:
		heap.Remove(&c.ready, l.at)
	}
	if l.first != nil || l.calls > 0 || l.gathering {
		return
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	delete(c.lines, l.key)
	if len(c.spare) < maxSpare {
		c.spare = append(c.spare, l)
	}
}

// callsPerKey is the most calls in flight for one key.
func (c *Coalescer) callsPerKey() int {
	if c.pace.slow(c.cfg.SlowCall) {
		return c.cfg.Dispatchers
	}
	return 1
}

// due tells when a line may start its next call. With nothing in flight it may at
// once, and also when its queue fills a call. Beside calls in flight, on a slow
// token, a call keeps its distance from the start of the one before, or calls would
// be in step. And it keeps it from the end of one, so that the callers of that can
// come back with their next requests: the first of them would otherwise go alone,
// and the others only with a later call.
func (c *Coalescer) due(l *line, now time.Time) time.Time {
	if l.calls == 0 || l.bytes >= c.cfg.MaxBytes {
		return now
	}
	last := l.lastStart
	if l.lastEnd.After(last) {
		last = l.lastEnd
	}
	return last.Add(c.pace.mean / time.Duration(2*c.cfg.Dispatchers))
}

// startable tells that a line may start a call now.
func (c *Coalescer) startable(l *line, now time.Time) bool {
	return c.inFlight < c.cfg.MaxCalls && l.calls < c.callsPerKey() && !l.gathering && !c.due(l, now).After(now)
}

// started accounts for a call that is about to begin.
func (c *Coalescer) started(l *line, now time.Time) {
	c.inFlight++
	l.calls++
	l.lastStart = now
}

// pick takes the next call out of the queues, or returns nil if none may start now.
// Whoever gets a batch must see that it is run.
func (c *Coalescer) pick(now time.Time) *batch {
	for c.inFlight < c.cfg.MaxCalls && len(c.ready) > 0 {
		l := c.ready[0]
		if due := c.due(l, now); due.After(now) {
			heap.Pop(&c.ready)
			c.wakeIn(l, due.Sub(now))
			continue
		}
		b := c.take(l, now)
		c.started(l, now)
		c.refresh(l)
		return b
	}
	return nil
}

// startReady starts workers for all calls that may start now.
func (c *Coalescer) startReady(now time.Time) {
	for b := c.pick(now); b != nil; b = c.pick(now) {
		go c.work(b)
	}
}

// take moves requests from the front of a queue into a batch: the first, and those
// behind it that fit.
func (c *Coalescer) take(l *line, now time.Time) *batch {
	b := c.newBatch(l)
	for r := l.first; r != nil; r = l.first {
		if len(b.members) > 0 && (r.alone || b.size+r.size > c.cfg.MaxBytes) {
			break
		}
		c.unqueue(r)
		b.add(r, now)
		if r.alone {
			break
		}
	}
	return b
}

// wakeIn makes a line ready after a while.
func (c *Coalescer) wakeIn(l *line, after time.Duration) {
	if l.timer == nil {
		l.timer = time.AfterFunc(after, func() { c.wake(l) })
		return
	}
	l.timer.Reset(after)
}

// wake makes a line ready, if it is still in use, and works on what may start.
func (c *Coalescer) wake(l *line) {
	now := time.Now()
	c.mu.Lock()
	if c.lines[l.key] == l {
		c.refresh(l)
	}
	next := c.pick(now)
	c.startReady(now)
	c.mu.Unlock()
	c.work(next)
}

// outcome is how a token call ended.
type outcome struct {
	err      error
	requests int // 0: there was no call after all
	bytes    int
	elapsed  time.Duration
	panicked bool
}

// ended accounts for a call, and returns one that may start now; further ones are
// started.
func (c *Coalescer) ended(l *line, o outcome, now time.Time) (next *batch) {
	c.inFlight--
	l.calls--
	l.lastEnd = now
	c.stats.count(o)
	if o.requests > 0 && o.err == nil && !o.panicked {
		c.pace.record(o.elapsed, (o.bytes+c.cfg.MaxBytes-1)/c.cfg.MaxBytes)
	}
	c.refresh(l)
	next = c.pick(now)
	c.startReady(now)
	c.endIfDrained()
	return next
}
