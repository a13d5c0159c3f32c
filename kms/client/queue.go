package client

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// queued is a call that a [queue] carries: a pointer to what embeds a [link].
type queued[C any] interface {
	comparable
	place() *link[C]
	// size is how much of a request the call fills at most, in bytes.
	size() int
	// fail makes the error the outcome.
	fail(err error)
	// discard frees a call whose outcome, if it has one, nobody takes.
	discard()
}

// link is what a queue knows of a call of type C.
type link[C any] struct {
	prev, next C // in the queue
	// flight is the RPC that carries the call; nil while it waits. Guarded by the queue,
	// as are left and done.
	flight *flight[C]
	left   bool // the caller has gone: whoever ends the flight frees the call
	done   bool // the outcome is set, and the caller will be told

	// ready has room for one, so that nobody waits to tell the caller.
	ready chan struct{}
}

func newLink[C any]() link[C] { return link[C]{ready: make(chan struct{}, 1)} }

func (l *link[C]) place() *link[C] { return l }

// sender makes one RPC of calls, and gives each its outcome. The error concerns all of them.
type sender[C any] func(ctx context.Context, calls []C) error

// queue merges the calls of concurrent callers into RPCs.
//
// A call that finds no RPC under way is sent at once. While RPCs are, calls wait, and
// those that wait become the next RPC. While RPCs are fast and calls few, one at a time is
// best: a second would only make both smaller. Where several are under way, each takes
// its share of all calls, waiting and travelling: without that, whoever comes first after
// an answer would travel alone and all others together, turn by turn.
//
// A queue has no goroutine of its own while nobody calls.
type queue[C queued[C]] struct {
	send     sender[C]
	limits   queueLimits
	lifetime context.Context

	mu         sync.Mutex
	head, tail C // that wait
	waiting    int
	bytes      int // their sizes together
	flying     int // RPCs under way, without the overdue
	overdue    int
	flyingLoad int           // calls of those flying
	mean       time.Duration // that RPCs take, the last ones above all
	hold       *time.Timer
	holding    bool // calls wait for others to join them, until the timer ends it
}

// queueLimits are the bounds of a queue, and what it knows of its calls.
type queueLimits struct {
	Batching
	timeout time.Duration // of an RPC; 0: none
	// bytes is how much the calls of one RPC may fill, by their sizes.
	bytes int
	// fastShare is how many calls make up for the cost of one more fast RPC.
	fastShare int
}

// flight is one RPC under way.
type flight[C any] struct {
	calls   []C
	ctx     context.Context
	cancel  context.CancelFunc
	started time.Time
	watch   *time.Timer
	present int // callers that have not left
	overdue bool
	landed  bool
}

// do carries a call to its outcome, which may be an error of its own; then the call is the
// caller's again. If do fails, with the error of ctx or [ErrQueueFull], it has freed the
// call.
func (q *queue[C]) do(ctx context.Context, c C) error {
	if err := ctx.Err(); err != nil {
		c.discard()
		return err
	}
	if err := q.join(c); err != nil {
		c.discard()
		return err
	}
	l := c.place()
	select {
	case <-l.ready:
	case <-ctx.Done():
		if q.leave(c) {
			return ctx.Err()
		}
		<-l.ready
	}
	return nil
}

func (q *queue[C]) join(c C) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting >= q.limits.MaxQueue || q.bytes+c.size() > maxQueueBytes {
		return ErrQueueFull
	}
	q.push(c)
	q.dispatch()
	return nil
}

// leave takes back the call of a caller whose context has ended. It reports false if the
// outcome came first.
func (q *queue[C]) leave(c C) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := c.place()
	switch {
	case l.done:
		return false
	case l.flight == nil:
		q.remove(c)
		c.discard()
	default:
		l.left = true
		if l.flight.present--; l.flight.present == 0 {
			l.flight.cancel()
		}
	}
	return true
}

// dispatch sends what is due. The queue is locked.
func (q *queue[C]) dispatch() {
	for q.waiting > 0 && q.flying < q.limits.MaxInFlight {
		n := q.due()
		if n == 0 {
			q.startHold()
			return
		}
		go q.fly(q.take(n))
	}
}

// due is how many calls the next RPC takes: the share of one RPC, rounded up; 0 if it is
// better to wait, because those waiting are less than a share, rounded down. The queue is
// locked.
func (q *queue[C]) due() int {
	all, rpcs := q.waiting+q.flyingLoad, q.limits.MaxInFlight
	if q.mean < maxHold {
		rpcs = min(max(all/q.limits.fastShare, 1), rpcs)
	}
	if q.flying > 0 && q.waiting < min(all/rpcs, q.limits.MaxItems) {
		return 0
	}
	return min((all+rpcs-1)/rpcs, q.waiting, q.limits.MaxItems)
}

// startHold bounds how long calls wait for others to join them. The queue is locked.
func (q *queue[C]) startHold() {
	if q.holding {
		return
	}
	q.holding = true
	if q.hold == nil {
		q.hold = time.AfterFunc(maxHold, q.endHold)
		return
	}
	q.hold.Reset(maxHold)
}

func (q *queue[C]) endHold() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.holding = false
	if q.waiting > 0 && q.flying < q.limits.MaxInFlight {
		go q.fly(q.take(min(q.waiting, q.limits.MaxItems)))
		q.dispatch()
	}
}

// take makes a flight of the n calls that wait longest, or of fewer if they fill a
// message. The queue is locked.
func (q *queue[C]) take(n int) *flight[C] {
	if q.holding && q.hold.Stop() {
		q.holding = false
	}
	f := &flight[C]{calls: make([]C, 0, n)}
	for size := 0; len(f.calls) < n; {
		c := q.head
		if size += c.size(); size > q.limits.bytes && len(f.calls) > 0 {
			break
		}
		q.remove(c)
		c.place().flight = f
		f.calls = append(f.calls, c)
	}
	f.present, f.started = len(f.calls), time.Now()
	if q.limits.timeout > 0 {
		f.ctx, f.cancel = context.WithTimeout(q.lifetime, q.limits.timeout) //nolint:gosec // fly and leave call cancel
	} else {
		f.ctx, f.cancel = context.WithCancel(q.lifetime) //nolint:gosec // as above
	}
	f.watch = time.AfterFunc(overdueAfter, func() { q.late(f) })
	q.flying++
	q.flyingLoad += len(f.calls)
	return f
}

// fly carries out a flight, and those after it for as long as calls are waiting.
func (q *queue[C]) fly(f *flight[C]) {
	for f != nil {
		err := q.send(f.ctx, f.calls)
		f.watch.Stop()
		f.cancel()
		q.deliver(f, err)
		// Those who got an answer and call again at once go along with the next RPC.
		runtime.Gosched()
		f = q.land(f)
	}
}

// deliver tells all callers of a flight that their outcomes are there, or that all failed.
func (q *queue[C]) deliver(f *flight[C], err error) {
	q.mu.Lock()
	for _, c := range f.calls {
		if err != nil {
			c.fail(err)
		}
		c.place().done = true
	}
	q.mu.Unlock()
	for _, c := range f.calls {
		if c.place().left { // and stays so: nobody leaves a call that is done
			c.discard()
			continue
		}
		c.place().ready <- struct{}{}
	}
}

// land ends a flight and returns the next, or nil.
func (q *queue[C]) land(f *flight[C]) *flight[C] {
	q.mu.Lock()
	defer q.mu.Unlock()
	f.landed = true
	q.mean += (time.Since(f.started) - q.mean) / 4
	if f.overdue {
		q.overdue--
	} else {
		q.flying--
		q.flyingLoad -= len(f.calls)
	}
	var next *flight[C]
	if q.waiting > 0 && q.flying < q.limits.MaxInFlight {
		if n := q.due(); n > 0 {
			next = q.take(n)
		}
	}
	q.dispatch()
	return next
}

// late lets another RPC take the place of one that has had no answer for long.
func (q *queue[C]) late(f *flight[C]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f.landed || q.overdue >= maxOverdue*q.limits.MaxInFlight {
		return
	}
	f.overdue = true
	q.overdue++
	q.flying--
	q.flyingLoad -= len(f.calls)
	q.dispatch()
}

func (q *queue[C]) push(c C) {
	var none C
	if c.place().prev = q.tail; q.tail == none {
		q.head = c
	} else {
		q.tail.place().next = c
	}
	q.tail = c
	q.waiting++
	q.bytes += c.size()
}

func (q *queue[C]) remove(c C) {
	var none C
	l := c.place()
	if l.prev == none {
		q.head = l.next
	} else {
		l.prev.place().next = l.next
	}
	if l.next == none {
		q.tail = l.prev
	} else {
		l.next.place().prev = l.prev
	}
	l.prev, l.next = none, none
	q.waiting--
	q.bytes -= c.size()
}
