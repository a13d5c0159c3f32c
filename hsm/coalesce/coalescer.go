package coalesce

import (
	"context"
	"sync"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Coalescer merges requests to a block cipher. It implements [hsm.BlockCipher].
type Coalescer struct {
	inner hsm.BlockCipher
	cfg   Config

	mu        sync.Mutex
	lines     map[hsm.UID]*line
	spare     []*line // idle, for reuse
	ready     readyLines
	inFlight  int // token calls
	pace      pace
	predictor predictor
	stats     Stats // counters; what else it has is filled in by Stats
	closed    bool
	drained   chan struct{} // closed when closed and nothing is left

	requests sync.Pool // of *request
	batches  sync.Pool // of *batch, wiped
}

var _ hsm.BlockCipher = (*Coalescer)(nil)

// New returns a Coalescer in front of inner. It does not close inner.
func New(inner hsm.BlockCipher, cfg Config) *Coalescer {
	return &Coalescer{
		inner:   inner,
		cfg:     cfg.withDefaults(),
		lines:   make(map[hsm.UID]*line),
		drained: make(chan struct{}),
	}
}

// EncryptBlocks implements [hsm.BlockCipher]. Beside the errors named there it
// returns hsm.ErrBusy. If ctx ends while the request waits or is part of a merged
// call, it returns at once, and dst and src are not used any more.
func (c *Coalescer) EncryptBlocks(ctx context.Context, key hsm.UID, dst, src []byte) error {
	return c.EncryptBlocksIf(ctx, key, dst, src, nil)
}

// EncryptBlocksIf is EncryptBlocks with an admission that is asked right before the
// blocks go to the token, after any queue: if it returns an error, the request ends
// with that error and does not reach the token. admit may be called on another
// goroutine, but not after EncryptBlocksIf has returned. It must be quick, for
// others wait behind it. It can be called twice: a request is tried again alone if
// its merged call was refused as malformed. nil admits.
func (c *Coalescer) EncryptBlocksIf(ctx context.Context, key hsm.UID, dst, src []byte, admit func() error) error {
	if err := hsm.CheckBlocks(dst, src); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	came := time.Now()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return hsm.ErrClosed
	}
	c.stats.Requests++
	number := c.stats.Requests
	l := c.lineOf(key)
	push := l.push
	now := came
	if l.first == nil && c.startable(l, now) {
		now = c.gather(l, len(src), now)
		if l.first == nil && c.startable(l, now) {
			c.stats.Direct++
			c.started(l, now)
			c.mu.Unlock()
			return c.direct(ctx, l, dst, src, admit, now)
		}
		push = l.pushFront
	} else if err := c.refuse(l, len(src)); err != nil {
		c.mu.Unlock()
		c.observe(Event{Kind: EventDropped, Requests: 1, Bytes: len(src), Err: err})
		return err
	}
	c.arrived(l, len(src))
	r := c.newRequest(ctx, dst, src, admit)
	r.queued, r.number = came, number
	c.queue(r, push)
	c.refresh(l)
	c.startReady(now)
	c.mu.Unlock()
	return c.await(r)
}

// direct is a call on the caller's goroutine, with the caller's buffers. A panic in
// it is the caller's.
func (c *Coalescer) direct(ctx context.Context, l *line, dst, src []byte, admit func() error,
	start time.Time) (err error) {
	var o outcome
	defer func() {
		now := time.Now()
		o.elapsed = now.Sub(start)
		c.mu.Lock()
		if o.requests == 0 && err != nil {
			c.stats.Refused++
		}
		if next := c.ended(l, o, now); next != nil {
			go c.work(next) // the caller has its answer and serves nobody else
		}
		c.mu.Unlock()
		c.observeDirect(ctx, o, len(src), err)
	}()
	if admit != nil {
		if err := admit(); err != nil {
			return err
		}
		start = time.Now()
	}
	o.requests, o.bytes, o.panicked = 1, len(src), true
	o.err = c.inner.EncryptBlocks(ctx, l.key, dst, src)
	o.panicked = false
	return o.err
}

// Close refuses new requests with hsm.ErrClosed, and returns when those that were
// accepted have ended: they are served. It is idempotent and returns nil.
func (c *Coalescer) Close() error {
	c.mu.Lock()
	c.closed = true
	c.endIfDrained()
	c.mu.Unlock()
	<-c.drained
	return nil
}

// endIfDrained lets Close return when nothing is left. The caller holds c.mu.
func (c *Coalescer) endIfDrained() {
	if !c.closed || len(c.lines) > 0 {
		return
	}
	select {
	case <-c.drained:
	default:
		close(c.drained)
	}
}
