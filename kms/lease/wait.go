package lease

import (
	"slices"
	"time"
)

// Observation is one reading of all lease rows and of the store's revision, in one
// transaction.
type Observation struct {
	// Asked and Answered are the reader's clock before the reading was sent, and after
	// its answer had arrived. A reader that is stopped in between must not mistake how
	// old the rows are, in either direction.
	Asked, Answered time.Duration
	// Head is the store's revision.
	Head uint64
	Rows []Row
	// Confirmed says that the transaction also wrote, and that its commit was confirmed
	// as that of a renewal is. Only then was this store still the one that renewals go
	// to: a former primary that does not know of the fail-over answers readings, but
	// confirms nothing.
	Confirmed bool
}

// Wait is for whoever has committed a change, and is to return once the change holds
// everywhere. It is for one goroutine.
type Wait struct {
	revision uint64
	self     string
	begun    bool
	others   []other
}

// other is a lease that must be waited for, and what became of it.
type other struct {
	row   Row           // as it was when Counter was last seen to move
	since time.Duration // from when on Counter was not seen to move
	fate  fate
}

type fate uint8

const (
	fateWaiting fate = iota
	fateAcknowledged
	fateExpired
	fateGone
)

// NewWait returns a Wait for a change that is committed at a revision. Rows of the
// instance self are passed over; it may be empty. Of its own process the caller knows:
// it must have acknowledged the revision, as Row.Applied means it, before it returns.
func NewWait(revision uint64, self string) *Wait {
	return &Wait{revision: revision, self: self}
}

// Observe takes a reading that was begun after the change was confirmed, and reports
// whether the wait is over. A reading that does not show the change comes from a former
// primary and is passed over; if it is Confirmed it is ErrStoreWentBackwards.
//
// Only leases that stand in the first reading are waited for. One that is joined later
// reads the revision after it has committed its row, hence after the change, and does
// not serve before it has acknowledged that revision.
func (w *Wait) Observe(o Observation) (done bool, err error) {
	if o.Head < w.revision {
		if o.Confirmed {
			return false, ErrStoreWentBackwards
		}
		return w.done(), nil
	}
	if !w.begun {
		w.begun = true
		for _, row := range o.Rows {
			if row.ID.Instance != w.self {
				w.others = append(w.others, other{row: row, since: o.Answered})
			}
		}
	}
	for i := range w.others {
		if w.others[i].fate == fateWaiting {
			w.others[i].observe(&o, w.revision)
		}
	}
	return w.done(), nil
}

func (t *other) observe(o *Observation, revision uint64) {
	i := slices.IndexFunc(o.Rows, func(r Row) bool { return r.ID == t.row.ID })
	switch {
	case i < 0:
		t.fate = fateGone
	case o.Rows[i].Applied >= revision:
		t.fate = fateAcknowledged
	case o.Rows[i].Counter != t.row.Counter:
		t.row, t.since = o.Rows[i], o.Answered
	case o.Confirmed && t.remaining(o.Asked) <= 0:
		t.fate = fateExpired
	}
}

// remaining is how long after now the lease is over, if its counter does not move.
func (t *other) remaining(now time.Duration) time.Duration {
	return t.row.Duration - (now - t.since) + Margin(t.row.Duration)
}

func (w *Wait) done() bool {
	return w.begun && !slices.ContainsFunc(w.others, func(t other) bool { return t.fate == fateWaiting })
}

// Next returns how long after now the first lease can be seen to expire, if nothing
// moves: a Confirmed reading that is begun then may end the wait. It is 0 before the
// first reading, and when there is nothing to wait for.
func (w *Wait) Next(now time.Duration) time.Duration {
	next, found := time.Duration(0), false
	for i := range w.others {
		if t := &w.others[i]; t.fate == fateWaiting {
			if left := max(0, t.remaining(now)); !found || left < next {
				next, found = left, true
			}
		}
	}
	return next
}

// Result is what became of the leases of the first reading. The promise holds for all
// but those in Waiting; that results already checked are handed over, for those in
// Acknowledged.
type Result struct {
	Acknowledged []ID // have acknowledged the change
	Expired      []ID // had no valid lease any more; anyone may remove their rows
	Gone         []ID // left, joined anew, or were removed after they had expired
	Waiting      []ID
}

// Result returns what has become known so far, in the order of the first reading.
func (w *Wait) Result() Result {
	var r Result
	lists := [...]*[]ID{
		fateWaiting: &r.Waiting, fateAcknowledged: &r.Acknowledged, fateExpired: &r.Expired, fateGone: &r.Gone,
	}
	for _, t := range w.others {
		*lists[t.fate] = append(*lists[t.fate], t.row.ID)
	}
	return r
}
