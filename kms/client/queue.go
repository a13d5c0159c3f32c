package client

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// sender makes one RPC of calls. It returns one result per call, in order, or an error
// that concerns all of them.
type sender func(ctx context.Context, calls []*member) ([]kms.DataKeyResult, error)

// queue merges the calls of concurrent callers into RPCs.
//
// A call that finds no RPC under way is sent at once. While RPCs are, calls wait, and
// those that wait become the next RPC. While RPCs are fast and calls few, one at a time is
// best: a second would only make both smaller. Where several are under way, each takes
// its share of all calls, waiting and travelling: without that, whoever comes first after
// an answer would travel alone and all others together, turn by turn.
//
// A queue has no goroutine of its own while nobody calls.
type queue struct {
	send     sender
	limits   Batching
	timeout  time.Duration // of an RPC; 0: none
	lifetime context.Context
	calls    *memberPool

	mu         sync.Mutex
	head, tail *member // that wait
	waiting    int
	bytes      int // their sizes together
	flying     int // RPCs under way, without the overdue
	overdue    int
	flyingLoad int           // calls of those flying
	mean       time.Duration // that RPCs take, the last ones above all
	hold       *time.Timer
	holding    bool // calls wait for others to join them, until the timer ends it
}

// flight is one RPC under way.
type flight struct {
	calls   []*member
	ctx     context.Context
	cancel  context.CancelFunc
	started time.Time
	watch   *time.Timer
	present int // callers that have not left
	overdue bool
	landed  bool
}

// do carries a call, and returns its outcome or the error of ctx. The call belongs to the
// queue from here on.
func (q *queue) do(ctx context.Context, c *member) (kms.DataKeyResult, error) {
	if err := ctx.Err(); err != nil {
		q.calls.put(c)
		return kms.DataKeyResult{}, err
	}
	if err := q.join(c); err != nil {
		q.calls.put(c)
		return kms.DataKeyResult{}, err
	}
	select {
	case <-c.ready:
	case <-ctx.Done():
		if q.leave(c) {
			return kms.DataKeyResult{}, ctx.Err()
		}
		<-c.ready
	}
	outcome := c.outcome
	q.calls.put(c)
	return outcome, outcome.Err
}

func (q *queue) join(c *member) error {
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
func (q *queue) leave(c *member) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case c.done:
		return false
	case c.flight == nil:
		q.remove(c)
		q.calls.put(c)
	default:
		c.left = true
		if c.flight.present--; c.flight.present == 0 {
			c.flight.cancel()
		}
	}
	return true
}

// dispatch sends what is due. The queue is locked.
func (q *queue) dispatch() {
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
func (q *queue) due() int {
	all, rpcs := q.waiting+q.flyingLoad, q.limits.MaxInFlight
	if q.mean < maxHold {
		rpcs = min(max(all/fastShare, 1), rpcs)
	}
	if q.flying > 0 && q.waiting < min(all/rpcs, q.limits.MaxItems) {
		return 0
	}
	return min((all+rpcs-1)/rpcs, q.waiting, q.limits.MaxItems)
}

// startHold bounds how long calls wait for others to join them. The queue is locked.
func (q *queue) startHold() {
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

func (q *queue) endHold() {
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
func (q *queue) take(n int) *flight {
	if q.holding && q.hold.Stop() {
		q.holding = false
	}
	f := &flight{calls: make([]*member, 0, n)}
	for size := 0; len(f.calls) < n; {
		c := q.head
		if size += c.size(); size > maxBatchBytes && len(f.calls) > 0 {
			break
		}
		q.remove(c)
		c.flight = f
		f.calls = append(f.calls, c)
	}
	f.present, f.started = len(f.calls), time.Now()
	if q.timeout > 0 {
		f.ctx, f.cancel = context.WithTimeout(q.lifetime, q.timeout)
	} else {
		f.ctx, f.cancel = context.WithCancel(q.lifetime)
	}
	f.watch = time.AfterFunc(overdueAfter, func() { q.late(f) })
	q.flying++
	q.flyingLoad += len(f.calls)
	return f
}

// fly carries out a flight, and those after it for as long as calls are waiting.
func (q *queue) fly(f *flight) {
	for f != nil {
		results, err := q.send(f.ctx, f.calls)
		f.watch.Stop()
		f.cancel()
		q.deliver(f, results, err)
		// Those who got an answer and call again at once go along with the next RPC.
		runtime.Gosched()
		f = q.land(f)
	}
}

// deliver gives all callers of a flight their outcomes.
func (q *queue) deliver(f *flight, results []kms.DataKeyResult, err error) {
	q.mu.Lock()
	for i, c := range f.calls {
		if err != nil {
			c.outcome.Err = err
		} else {
			c.outcome = results[i]
		}
		c.done = true
	}
	q.mu.Unlock()
	for _, c := range f.calls {
		if c.left { // and stays so: nobody leaves a call that is done
			c.outcome.DataKey.Wipe()
			q.calls.put(c)
			continue
		}
		c.ready <- struct{}{}
	}
}

// land ends a flight and returns the next, or nil.
func (q *queue) land(f *flight) *flight {
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
	var next *flight
	if q.waiting > 0 && q.flying < q.limits.MaxInFlight {
		if n := q.due(); n > 0 {
			next = q.take(n)
		}
	}
	q.dispatch()
	return next
}

// late lets another RPC take the place of one that has had no answer for long.
func (q *queue) late(f *flight) {
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

func (q *queue) push(c *member) {
	if c.prev = q.tail; c.prev == nil {
		q.head = c
	} else {
		c.prev.next = c
	}
	q.tail = c
	q.waiting++
	q.bytes += c.size()
}

func (q *queue) remove(c *member) {
	if c.prev == nil {
		q.head = c.next
	} else {
		c.prev.next = c.next
	}
	if c.next == nil {
		q.tail = c.prev
	} else {
		c.next.prev = c.prev
	}
	c.prev, c.next = nil, nil
	q.waiting--
	q.bytes -= c.size()
}
