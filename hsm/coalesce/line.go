package coalesce

import (
	"container/heap"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// line is the queue of one key, first come first served, and what is in flight for
// it. It exists while there is any of it. Guarded by Coalescer.mu.
type line struct {
	key         hsm.UID
	first, last *request
	waiting     int // requests in the queue
	bytes       int // of the queue

	calls     int       // in flight
	lastStart time.Time // of a call
	lastEnd   time.Time // of a call, successful or not

	gathering bool // the request that comes first lets others queue; see gather

	at    int         // position among the ready lines, or -1
	timer *time.Timer // makes the line ready when its time has come; nil until needed
}

// push queues a request at the end.
func (l *line) push(r *request) {
	r.line, r.prev, r.next = l, l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.next = r
	}
	l.last = r
	l.waiting++
	l.bytes += r.size
}

// pushFront queues a request before all others.
func (l *line) pushFront(r *request) {
	r.line, r.prev, r.next = l, nil, l.first
	if l.first == nil {
		l.last = r
	} else {
		l.first.prev = r
	}
	l.first = r
	l.waiting++
	l.bytes += r.size
}

// remove takes a request out of the queue.
func (l *line) remove(r *request) {
	if r.prev == nil {
		l.first = r.next
	} else {
		r.prev.next = r.next
	}
	if r.next == nil {
		l.last = r.prev
	} else {
		r.next.prev = r.prev
	}
	l.waiting--
	l.bytes -= r.size
	r.line, r.prev, r.next = nil, nil, nil
}

// readyLines are the lines that may start a call as soon as there is a session and
// their time has come, the one whose first request came first on top.
type readyLines []*line

var _ heap.Interface = (*readyLines)(nil)

// Len implements [heap.Interface], as do the methods that follow.
func (h readyLines) Len() int { return len(h) }

// Less orders by arrival. A line that is ready has a request.
func (h readyLines) Less(i, j int) bool { return h[i].first.number < h[j].first.number }

// Swap keeps the positions.
func (h readyLines) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push adds a *line.
func (h *readyLines) Push(x any) {
	if l, ok := x.(*line); ok {
		l.at = len(*h)
		*h = append(*h, l)
	}
}

// Pop removes the last.
func (h *readyLines) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	l.at = -1
	return l
}
