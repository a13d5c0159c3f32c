package pkcs11hsm

import (
	"runtime"
	"sync"
	"time"
)

// A software token computes on the host's cores, of which the requests themselves need a
// share. Many callers with a short call each are then best served by fewer threads than
// there are cores, which make one call after another: threads in such a module are in each
// other's way (SoftHSM2 takes one lock of the process some eighty times a signature), and every
// switch between them costs. A lane is such threads. Each belongs to its goroutine, makes
// calls for some time before it wakes those who wait for them, and never looks for anything
// else to do.
//
// Measured on two cores with one thread, SoftHSM2 and 32 callers over gRPC, in a kmsd that
// changed between both ways: 10 to 20% more P-256 signatures a second. What is much shorter
// costs more to hand over than it gains (derivations: 6 to 18% fewer), and what is longer
// needs more than one core.
const (
	// Calls whose items take from shortestInLane to longestInLane of the token, and that
	// take no more than longestLaneCall in all, are made in a lane.
	shortestInLane  = 16 * time.Microsecond
	longestInLane   = 80 * time.Microsecond
	longestLaneCall = 400 * time.Microsecond
	// laneHold is for how long a thread makes calls before it wakes those whose are made.
	laneHold = 250 * time.Microsecond
	// laneMet is after how many calls in a row that met no other the next is made by its
	// caller, which takes less time but keeps the threads waiting.
	laneMet = 64
	// laneStall is how long no call has ended, while others wait, in a lane that is not
	// waited for any more. It is found after that time, or twice that at most.
	laneStall = 5 * time.Millisecond
	// laneWait is after how long a call that still waits is sent away, found as late as that.
	laneWait = 50 * time.Millisecond
)

// lane makes calls one after another, in the order in which they came: on its threads, or,
// where calls have not met for a while, on the caller's.
type lane struct {
	threads int // the most calls at a time; 0: there is no lane

	mu       sync.Mutex
	work     sync.Cond // calls wait and may begin, or the lane is closed
	underWay int
	met      int // how many calls are given to threads though nothing is under way
	waiting  laneQueue
	made     []*laneCall // by threads, whose callers still sleep
	ended    uint64      // calls
	stalled  bool        // no call has ended for long
	closed   bool
	begun    int // threads
	running  sync.WaitGroup

	watching bool // the watch is set
	watch    *time.Timer
	watched  uint64 // what ended was when it was set

	calls sync.Pool // of *laneCall
}

func newLane(threads int) *lane {
	l := &lane{threads: threads}
	l.work.L = &l.mu
	return l
}

// suits tells whether a call with n items, each of which takes so long, belongs in a lane.
func (l *lane) suits(n int, each time.Duration) bool {
	return l.threads > 0 && each >= shortestInLane && each <= longestInLane && time.Duration(n)*each <= longestLaneCall
}

// do makes a call, on whatever goroutine, and returns its error. If it reports that the call
// was not made, which is when the lane is stalled or closed, the caller makes it some other
// way; so it is when the call has waited for long. A panic of the call is the caller's. No
// context ends the wait, which is laneWait and laneStall at most.
func (l *lane) do(call func() error) (made bool, err error) {
	l.mu.Lock()
	if l.stalled || l.closed {
		l.mu.Unlock()
		return false, nil
	}
	if l.busy() {
		l.met = laneMet
	} else if l.met > 0 {
		l.met--
	}
	if l.met == 0 {
		l.underWay++
		l.mu.Unlock()
		defer l.end()
		return true, call()
	}
	c := l.newCall(call)
	c.came = time.Now()
	l.enqueue(c)
	l.mu.Unlock()
	<-c.done
	end := c.end
	l.recycle(c)
	if end.panicked != nil {
		panic(end.panicked) //nolint:forbidigo // the call's own, passed on
	}
	return end.made, end.err
}

// busy reports whether another call would have to wait. The caller holds l.mu.
func (l *lane) busy() bool { return l.underWay >= l.threads || !l.waiting.empty() }

// enqueue has a call wait for a thread. The caller holds l.mu.
func (l *lane) enqueue(c *laneCall) {
	l.waiting.push(c)
	if l.underWay < l.threads {
		l.work.Signal()
	}
	if l.begun < l.threads {
		l.begun++
		l.running.Go(l.thread)
	}
	if !l.watching {
		l.watchOn()
	}
}

// end accounts for a call that its caller has made.
func (l *lane) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.endOne()
	if !l.waiting.empty() {
		l.work.Signal()
	}
}

// endOne accounts for a call. The caller holds l.mu.
func (l *lane) endOne() {
	l.underWay--
	l.ended++
	l.stalled = false
}

// thread serves those who wait until the lane is closed.
func (l *lane) thread() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for l.await() {
		l.serve()
	}
}

// await waits until there is a call to make. It reports whether there is one: else the
// lane is closed.
func (l *lane) await() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.waiting.empty() || l.underWay >= l.threads {
		if l.closed && l.waiting.empty() {
			l.work.Broadcast() // to others that were told while calls waited, and have none to begin
			return false
		}
		l.work.Wait()
	}
	return true
}

// serve makes calls until none waits.
func (l *lane) serve() {
	var spare []*laneCall
	begin := time.Now()
	for c := l.next(); c != nil; {
		c.make()
		now := time.Now()
		hold := now.Sub(begin) < laneHold
		if !hold {
			begin = now
		}
		var made []*laneCall
		if c, made = l.after(c, hold, spare); made != nil {
			spare = wake(made)
		}
	}
}

// next takes a call from the queue, unless as many are under way as may be.
func (l *lane) next() *laneCall {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take()
}

// after accounts for a call that a thread has made, and takes the next. It returns those that
// are made and whose callers are to be woken, if there is no next or no reason to hold them
// back; what is made from then on is listed in spare.
func (l *lane) after(c *laneCall, hold bool, spare []*laneCall) (next *laneCall, made []*laneCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made = append(l.made, c)
	l.endOne()
	if next = l.take(); next == nil || !hold {
		made, l.made = l.made, spare
	}
	return next, made
}

// take is next; the caller holds l.mu.
func (l *lane) take() *laneCall {
	if l.underWay >= l.threads || l.waiting.empty() {
		return nil
	}
	l.underWay++
	return l.waiting.pop()
}

// wake wakes who waits for calls, and returns the list emptied.
func wake(calls []*laneCall) []*laneCall {
	for i, c := range calls {
		calls[i] = nil
		c.done <- struct{}{}
	}
	return calls[:0]
}

// watchOn sets the watch. The caller holds l.mu.
func (l *lane) watchOn() {
	l.watching, l.watched = true, l.ended
	if l.watch == nil {
		l.watch = time.AfterFunc(laneStall, l.look)
	} else {
		l.watch.Reset(laneStall)
	}
}

// look finds out whether the lane is stalled, and sends away who waits in one that is, or has
// waited for long.
func (l *lane) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watching = false
	if l.waiting.empty() && len(l.made) == 0 {
		return
	}
	noneEnded := l.ended == l.watched
	if noneEnded {
		// Where fewer calls are under way than may be, it is a thread that the host did not let
		// run: no end of a call may come to tell that the lane is well again.
		l.stalled = l.underWay >= l.threads
		l.made = wake(l.made)
	}
	for !l.waiting.empty() && (noneEnded || time.Since(l.waiting.first.came) >= laneWait) {
		l.waiting.pop().done <- struct{}{} // not made
	}
	if !noneEnded {
		l.watchOn()
	}
	if l.closed && l.waiting.empty() {
		l.work.Broadcast() // nothing is left to wait for
	}
}

// close has do make no calls any more, and waits until the threads have ended, which first
// serve who waits.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	l.work.Broadcast()
	l.mu.Unlock()
	l.running.Wait()
}

// laneCall is a call that waits or has been made.
type laneCall struct {
	call func() error
	next *laneCall     // in the queue
	came time.Time     // into the queue
	done chan struct{} // has one element when end is set
	end  laneEnd
}

// laneEnd is how a call ended.
type laneEnd struct {
	made     bool
	err      error
	panicked any
}

// newCall returns a call that waits nowhere.
func (l *lane) newCall(call func() error) *laneCall {
	c, ok := l.calls.Get().(*laneCall)
	if !ok {
		c = &laneCall{done: make(chan struct{}, 1)}
	}
	c.call = call
	return c
}

// recycle gives a call back. Nobody else may hold it.
func (l *lane) recycle(c *laneCall) {
	*c = laneCall{done: c.done}
	l.calls.Put(c)
}

// make makes the call.
func (c *laneCall) make() {
	defer func() { c.end.panicked = recover() }()
	c.end.made = true
	c.end.err = c.call()
}

// laneQueue is first in, first out.
type laneQueue struct{ first, last *laneCall }

func (q *laneQueue) empty() bool { return q.first == nil }

func (q *laneQueue) push(c *laneCall) {
	if q.first == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
}

func (q *laneQueue) pop() *laneCall {
	c := q.first
	q.first, c.next = c.next, nil
	return c
}
