package coalesce

import (
	"context"
	"time"
)

// Stats are counts since the start, and the state of the moment.
type Stats struct {
	Requests  uint64 // that were well formed and came before Close
	Direct    uint64 // of these, went to the token at once, on the caller's goroutine
	Merged    uint64 // of these, shared their token call with others
	Rejected  uint64 // refused with hsm.ErrBusy
	Refused   uint64 // not admitted at dispatch
	Gathered  uint64 // let others of their key queue before they went, on a busy host
	Cancelled uint64 // given up before dispatch: context done
	Abandoned uint64 // given up while their merged call was in flight

	Calls     uint64 // token calls, direct ones included
	Failed    uint64 // of these, ended with an error or a panic
	Panics    uint64 // of these, with a panic
	Separated uint64 // requests tried again alone after their merged call was refused as malformed
	Bytes     uint64 // that token calls were given

	Waits    uint64        // requests that left the queue for a call
	WaitTime time.Duration // their time in the queue, summed up
	CallTime time.Duration // time of token calls, summed up

	QueueRequests    int // waiting now
	QueueBytes       int
	MaxQueueRequests int // most that ever waited at once
	MaxQueueBytes    int
	InFlight         int // token calls now
	ActiveKeys       int // keys with a call in flight or a request waiting

	MeanCall time.Duration // moving average over recent calls, per MaxBytes
	Slow     bool          // several calls per key are allowed in flight
}

// EventKind says what an [Event] reports.
type EventKind uint8

// The kinds of events.
const (
	// EventRequest: a request was part of a token call that has ended. Wait is its
	// time in the queue, 0 if it went directly; Call and Err are those of the call;
	// Requests is 1.
	EventRequest EventKind = 1 + iota
	// EventDropped: a request ended before dispatch: hsm.ErrBusy, its context, or
	// its admission, in Err. Requests is 1.
	EventDropped
	// EventCall: a token call ended. Requests were merged in it; Call is its
	// duration, Err its outcome.
	EventCall
)

// Event is one observation, for histograms and traces. Nothing in it is secret.
type Event struct {
	Kind     EventKind
	Context  context.Context // of the caller, for EventRequest; else nil
	Requests int
	Bytes    int
	Wait     time.Duration
	Call     time.Duration
	Err      error
}

// Stats returns the counters.
func (c *Coalescer) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.InFlight, s.ActiveKeys = c.inFlight, len(c.lines)
	s.MeanCall, s.Slow = c.pace.mean, c.pace.slow(c.cfg.SlowCall)
	return s
}

// count takes in a token call.
func (s *Stats) count(o outcome) {
	if o.requests == 0 {
		return
	}
	s.Calls++
	s.Bytes += uint64(o.bytes)
	s.CallTime += o.elapsed
	if o.requests > 1 {
		s.Merged += uint64(o.requests)
	}
	if o.err != nil || o.panicked {
		s.Failed++
	}
	if o.panicked {
		s.Panics++
	}
}

// observe tells the observer, if there is one.
func (c *Coalescer) observe(e Event) {
	if c.cfg.Observe != nil {
		c.cfg.Observe(e)
	}
}

// observeCall reports a token call, if there was one.
func (c *Coalescer) observeCall(o outcome) {
	if o.requests > 0 {
		c.observe(Event{Kind: EventCall, Requests: o.requests, Bytes: o.bytes, Call: o.elapsed, Err: o.err})
	}
}

// observeDirect reports a request of size bytes that did not queue, and its call.
func (c *Coalescer) observeDirect(ctx context.Context, o outcome, size int, err error) {
	if o.requests == 0 {
		c.observe(Event{Kind: EventDropped, Requests: 1, Bytes: size, Err: err})
		return
	}
	c.observe(Event{Kind: EventRequest, Context: ctx, Requests: 1, Bytes: size, Call: o.elapsed, Err: o.err})
	c.observeCall(o)
}
