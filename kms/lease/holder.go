package lease

import (
	"errors"
	"math"
	"sync/atomic"
	"time"
)

// Errors of a Holder. ErrStoreWentBackwards and ErrLeft are for good.
var (
	// ErrBehind: the live lease may not be renewed now, because a change that was
	// committed before the previous renewal is not acknowledged yet.
	ErrBehind = errors.New("lease: not renewed: a change that the previous renewal told of is not applied yet")
	// ErrLapsed: the renewal is no use, because the lease had ended when it was confirmed,
	// or had been given up.
	ErrLapsed = errors.New("lease: the lease had ended when the renewal was confirmed")
	// ErrNoLease: the replica holds no lease and must not serve.
	ErrNoLease = errors.New("lease: no valid lease")
	// ErrStoreWentBackwards: the store's revision is lower than one that was seen before.
	ErrStoreWentBackwards = errors.New("lease: the store went backwards: it has lost changes that were committed")
	// ErrLeft: the replica has stopped serving on purpose.
	ErrLeft = errors.New("lease: the replica has left")
)

// phase is how far a holder has come.
type phase uint8

const (
	phaseOut        phase = iota // no row that counts
	phaseJoined                  // the row is committed; the revision was not read since
	phaseCatchingUp              // the revision was read after the row was committed
	phaseServing                 // that revision is acknowledged
)

// never is the end of a lease that nobody has.
const never = time.Duration(math.MinInt64)

// Holder decides for one process whether it may serve. [Holder.MayServe] and
// [Holder.Refusal] may be called by many goroutines at once; everything else is for
// one goroutine at a time, the one that keeps the lease.
//
// That goroutine goes round: Begin, the transaction that it asks for, Committed; and
// CaughtUp whenever more is acknowledged. A transaction that failed, or whose outcome is
// unknown, is followed by the next Begin and nothing else. When what is read of the store
// does not follow from what was read of it before, it calls GiveUp, and while that is so
// it begins nothing, but has the revision read by transactions that write, and calls Seen.
//
// All clock readings are durations since any fixed origin, of a clock that goes on
// while the machine sleeps (CLOCK_BOOTTIME).
type Holder struct {
	duration, margin time.Duration
	standing

	until   atomic.Int64 // end of the lease while serving, otherwise never
	refusal atomic.Int32 // why it refuses for good
}

// standing is what a Holder remembers between its transitions.
type standing struct {
	id           ID
	phase        phase
	end          time.Duration // of the lease, margin taken off; meaningless when out
	acknowledged uint64
	required     uint64 // the revision that the previous renewal of this lease told of
	known        uint64 // the highest revision that the store was ever seen at
	begun        uint64 // transactions
}

const (
	refusalNone int32 = iota
	refusalBackwards
	refusalLeft
)

// NewHolder returns a Holder without a lease. The instance must be one that no other
// process has or had; duration is for how long each renewal is to be good.
func NewHolder(instance string, duration time.Duration) *Holder {
	h := &Holder{duration: duration, margin: Margin(duration)}
	h.id.Instance = instance
	h.publish()
	return h
}

// ID returns the lease that is held or being joined; Join is 0 before the first Begin.
func (h *Holder) ID() ID { return h.id }

// Renewal is a transaction that the caller is to run. Each reads the store's revision
// and commits one row:
//
//   - Join: put the row {ID, Counter, Applied, Duration} in place of any row of the
//     same Instance with a lower Join. Where a row with a higher Join stands, the
//     transaction is a late one: it changes nothing and fails.
//   - otherwise: in the row of exactly this ID set Counter and Applied. Where there is no
//     such row, nothing is done and [Holder.Missing] called.
//
// It reads the revision of a state of the store that comes from the one that the replica
// has applied. Where the store has lost changes that the replica has applied, whether or
// not it has made others since, nothing is done and [Holder.GiveUp] called. Only so is
// Applied a revision of the store that the row stands in.
//
// The commit must be durable on what may become the store (synchronous standbys) before
// it counts as confirmed.
type Renewal struct {
	ID       ID
	Join     bool
	Counter  uint64
	Applied  uint64
	Duration time.Duration

	sent  time.Duration
	known uint64
}

// Begin returns the transaction that keeps or gains the lease. now is read before the
// transaction is sent, and acknowledged is what Row.Applied means. The errors are
// ErrBehind, after which the caller tries again once more is acknowledged,
// ErrStoreWentBackwards and ErrLeft.
func (h *Holder) Begin(now time.Duration, acknowledged uint64) (Renewal, error) {
	if err := h.final(); err != nil {
		return Renewal{}, err
	}
	h.CaughtUp(acknowledged)
	if now >= h.end {
		h.lapse()
	}
	join := h.phase == phaseOut
	switch {
	case join:
		h.id.Join++
		h.required = 0
	case h.acknowledged < h.required:
		return Renewal{}, ErrBehind
	}
	h.begun++
	return Renewal{
		ID: h.id, Join: join, Counter: h.begun, Applied: h.acknowledged, Duration: h.duration,
		sent: now, known: max(h.known, h.acknowledged),
	}, nil
}

// Committed takes the confirmation of a renewal. now is read after the confirmation has
// arrived; head is the revision that the transaction read. After ErrLapsed the next
// Begin joins anew.
func (h *Holder) Committed(now time.Duration, r Renewal, head uint64) error {
	if err := h.final(); err != nil {
		return err
	}
	if head < r.known {
		h.refuse(refusalBackwards)
		return ErrStoreWentBackwards
	}
	h.known = max(h.known, head)
	if r.ID != h.id || r.Join != (h.phase == phaseOut) {
		return ErrLapsed // of a lease that has been given up meanwhile
	}
	if r.Join {
		h.phase, h.end = phaseJoined, never
	} else if now >= h.end {
		h.lapse()
		return ErrLapsed
	}
	if h.end = max(h.end, r.sent+h.duration-h.margin); now >= h.end {
		h.lapse()
		return ErrLapsed
	}
	if !r.Join {
		h.required = max(h.required, head)
		if h.phase == phaseJoined {
			h.phase = phaseCatchingUp
		}
	}
	h.CaughtUp(h.acknowledged)
	return nil
}

// Missing takes the answer that the row of a renewal is not there: another replica saw
// the lease expire and removed it.
func (h *Holder) Missing(r Renewal) {
	if r.ID == h.id {
		h.lapse()
	}
}

// GiveUp ends the lease before its time, because the store seems not to be the one that
// the replica has read. The next Begin joins anew. It may come at any moment; a renewal
// that is under way is then of no use.
func (h *Holder) GiveUp() { h.lapse() }

// Seen takes the revision that a transaction has read which was no renewal, and confirmed
// as one is. A store at a lower revision than one that was seen before has lost changes:
// that is ErrStoreWentBackwards, for good.
func (h *Holder) Seen(head uint64) error {
	if err := h.final(); err != nil {
		return err
	}
	if head < max(h.known, h.acknowledged) {
		h.refuse(refusalBackwards)
		return ErrStoreWentBackwards
	}
	h.known = max(h.known, head)
	return nil
}

// CaughtUp takes the highest revision that is acknowledged, as Row.Applied means it. A
// replica that has read the revision since it joined serves from the moment on at which
// that revision is acknowledged.
func (h *Holder) CaughtUp(acknowledged uint64) {
	h.acknowledged = max(h.acknowledged, acknowledged)
	if h.phase == phaseCatchingUp && h.acknowledged >= h.required {
		h.phase = phaseServing
	}
	h.publish()
}

// Leave ends serving for good. When every operation in flight has ended, the caller
// removes the row of ID; not before.
func (h *Holder) Leave() { h.refuse(refusalLeft) }

// MayServe reports whether the lease is valid at a clock reading: one atomic load. A
// check that passed at that reading keeps its word even when the process is stopped
// right after it; doc.go has the order in which an operation must check.
func (h *Holder) MayServe(now time.Duration) bool { return int64(now) < h.until.Load() }

// Refusal says why MayServe is false: ErrStoreWentBackwards, ErrLeft or ErrNoLease. It is
// nil while there is a lease; whether that has run out, MayServe tells.
func (h *Holder) Refusal() error {
	if err := h.final(); err != nil {
		return err
	}
	if h.until.Load() == int64(never) {
		return ErrNoLease
	}
	return nil
}

// final is the reason why the holder will never serve again, if there is one.
func (h *Holder) final() error {
	switch h.refusal.Load() {
	case refusalBackwards:
		return ErrStoreWentBackwards
	case refusalLeft:
		return ErrLeft
	}
	return nil
}

func (h *Holder) lapse() {
	h.phase, h.end = phaseOut, never
	h.publish()
}

// refuse ends serving for good, for the first reason that comes.
func (h *Holder) refuse(reason int32) {
	h.refusal.CompareAndSwap(refusalNone, reason)
	h.lapse()
}

func (h *Holder) publish() {
	until := never
	if h.phase == phaseServing {
		until = h.end
	}
	h.until.Store(int64(until))
}
