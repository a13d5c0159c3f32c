package coalesce

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// batch is one merged call. It belongs to the goroutine that runs it, but for what
// is said to be shared.
type batch struct {
	line    *line
	key     hsm.UID
	members []member // in the order of their blocks
	size    int      // bytes of the members

	// src and dst are the blocks of the members, one after another, and what comes
	// of them; filled is how much of them is in use. They are apart: a token may
	// need a buffer of its own to work in place.
	src, dst []byte
	filled   int

	// The call is given up when nobody waits for it any more. waiting is shared
	// with callers that leave: the members still waited for, and one more while
	// the batch is being filled.
	ctx     context.Context
	cancel  context.CancelFunc
	waiting atomic.Int32

	cancelled, refused uint64 // requests that ended here, before the call
}

// member is a request in a batch. Once the request is settled it is its caller's
// again, and only the other fields may be used.
type member struct {
	request *request
	ctx     context.Context // of the caller
	size    int
	wait    time.Duration // in the queue
}

// newBatch returns an empty batch.
func (c *Coalescer) newBatch(l *line) *batch {
	b, ok := c.batches.Get().(*batch)
	if !ok {
		b = new(batch)
	}
	b.line, b.key = l, l.key
	return b
}

// add appends a request that has just left the queue.
func (b *batch) add(r *request, now time.Time) {
	b.members = append(b.members, member{r, r.ctx, r.size, now.Sub(r.queued)})
	b.size += r.size
}

// fill copies the blocks of the members that are still to be served, and drops the
// others. It reports whether anybody waits for the call.
func (b *batch) fill(c *Coalescer) bool {
	// The call serves many requests, so it ends with none of their contexts.
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.waiting.Store(1)
	if cap(b.src) < b.size {
		size := max(b.size, c.cfg.MaxBytes)
		b.src, b.dst = make([]byte, size), make([]byte, size)
	}
	kept := b.members[:0]
	for _, m := range b.members {
		r := m.request
		r.mu.Lock()
		if r.left { // and has counted itself
			r.settle(nil)
			continue
		}
		if err := b.refusal(r); err != nil {
			r.settle(err)
			c.observe(Event{Kind: EventDropped, Requests: 1, Bytes: m.size, Wait: m.wait, Err: err})
			continue
		}
		r.batch = b
		b.waiting.Add(1)
		b.filled += copy(b.src[b.filled:], r.src)
		r.mu.Unlock()
		kept = append(kept, m)
	}
	clear(b.members[len(kept):])
	b.members = kept
	return b.waiting.Add(-1) > 0
}

// refusal tells why a request is not to be served after all, or nil. The caller
// holds r.mu.
func (b *batch) refusal(r *request) error {
	if err := r.ctx.Err(); err != nil {
		b.cancelled++
		return err
	}
	if r.admit == nil {
		return nil
	}
	err := admitted(r.admit)
	if err != nil {
		b.refused++
	}
	return err
}

// leave is called by a caller that goes while its request is part of the batch.
func (b *batch) leave() {
	if b.waiting.Add(-1) == 0 {
		b.cancel()
	}
}

// deliver hands every member its blocks, or err.
func (b *batch) deliver(err error) {
	at := 0
	for _, m := range b.members {
		r := m.request
		r.mu.Lock()
		if err == nil && !r.left {
			copy(r.dst, b.dst[at:at+m.size])
		}
		r.settle(err)
		at += m.size
	}
}

// release takes the members that are still waited for out of the batch, unsettled.
func (b *batch) release() []*request {
	requests := make([]*request, 0, len(b.members))
	for _, m := range b.members {
		r := m.request
		r.mu.Lock()
		r.batch = nil
		if !r.left {
			requests = append(requests, r)
		}
		r.mu.Unlock()
	}
	return requests
}

// maxKept is the size, in merged calls, of the largest buffers that are kept.
const maxKept = 4

// discard wipes the buffers of a batch that has ended, and keeps it for another.
func (c *Coalescer) discard(b *batch) {
	b.cancel()
	clear(b.src[:b.filled])
	clear(b.dst[:b.filled])
	clear(b.members)
	src, dst, members := b.src, b.dst, b.members[:0]
	if len(src) > maxKept*c.cfg.MaxBytes {
		return
	}
	*b = batch{src: src, dst: dst, members: members}
	c.batches.Put(b)
}
