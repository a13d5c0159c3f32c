//go:build !race

package lease

import (
	"errors"
)

// store: the clock, changes, fail-over.
func (e *expansion) store() {
	if e.mayTick() {
		e.tick(e.next(stepTick, 0))
		for i := range e.replicas {
			if e.slowClocks && e.from.replicas[i].lag == 0 {
				w := e.next(stepSlowTick, i)
				w.replicas[i].lag++
				e.tick(w)
			}
		}
	}
	if k := int(e.from.made); k < e.changes {
		w := e.next(stepChange, k+1)
		w.head++
		w.made++
		self := ""
		if e.insider {
			self = instances[0]
		}
		if w.calls[k].revision = w.head; k >= e.unwaited {
			w.calls[k].wait = NewWait(uint64(w.head), self)
		}
	}
	e.loss()
	if e.failOver && !e.from.failed {
		w := e.next(stepFailOver, 0)
		w.failed = true
		w.former = former{head: w.head, rows: w.rows}
		for i := range w.replicas { // what was not committed is lost; whether it was, nobody knows
			r := &w.replicas[i]
			if !r.transaction.committed {
				r.transaction = transaction{}
			}
			r.overdue = transaction{}
		}
	}
}

// mayTick holds the clock until everybody who must be prompt has been.
func (e *expansion) mayTick() bool {
	if !e.prompt {
		return true
	}
	for i := range e.replicas {
		if e.from.replicas[i].transaction.open {
			return false
		}
	}
	for k := range e.changes {
		if c := &e.from.calls[k]; c.wait != nil && !c.returned &&
			(!c.readOnce || c.reading.stage != readNone || c.wait.done()) {
			return false
		}
	}
	return true
}

func (e *expansion) tick(w *world) {
	w.now++
	for k := range e.changes {
		c := &w.calls[k]
		c.readOnce = false
		if e.bound == 0 || c.wait == nil || c.returned {
			continue
		}
		if c.age++; int(c.age) > e.bound {
			e.violation("the call of change %d has not returned after %d ticks", k+1, c.age)
		}
	}
}

// lease: one replica applies changes and keeps its lease.
func (e *expansion) lease(i int) {
	r := &e.from.replicas[i]
	e.transaction(i)
	if r.overdue.open {
		w := e.next(stepCommitLate, i)
		t := w.replicas[i].overdue
		e.commit(w, i, &t)
		w.replicas[i].overdue = transaction{}
	}
	if r.left {
		return
	}
	e.begin(i)
	e.doubts(i)
	if r.applied < e.from.head && !r.stray {
		e.next(stepApply, i).replicas[i].applied++
	}
	caughtUp := r.acknowledged()
	if e.mutation.catchUpApplied || e.mutation.acknowledgeApplied {
		caughtUp = r.applied
	}
	if e.mutation.serveBeforeCatchUp {
		caughtUp = e.from.head
	}
	if e.lossy && r.transaction.open {
		return // it is for the goroutine that waits
	}
	if h := r.holder; h.phase == phaseCatchingUp && uint64(caughtUp) >= h.required {
		h = h.clone()
		h.CaughtUp(uint64(caughtUp))
		if e.mutation.serveBeforeCatchUp {
			h.acknowledged = r.holder.acknowledged
		}
		next := &e.next(stepCatchUp, i).replicas[i]
		next.holder, next.seen = h, max(r.seen, caughtUp)
	}
}

func (e *expansion) begin(i int) {
	r := &e.from.replicas[i]
	if r.transaction.open || e.silent && e.from.made > 0 {
		return
	}
	acknowledged := r.acknowledged()
	if e.mutation.acknowledgeApplied {
		acknowledged = r.applied
	}
	h := r.holder.clone()
	if e.mutation.renewWhileBehind && h.phase == phaseServing {
		h.required = 0
	}
	renewal, err := h.Begin(r.clock(e.from), uint64(acknowledged))
	if err != nil {
		return // it may not, and its lease has not lapsed
	}
	name := stepBeginRenewal
	if renewal.Join {
		name = stepBeginJoin
	}
	next := &e.next(name, i).replicas[i]
	next.holder, next.transaction = h, transaction{open: true, renewal: renewal}
	next.seen = max(r.seen, acknowledged)
	if renewal.Join {
		next.orphan = false // that lease is over
	}
}

// transaction takes the open transaction of a replica one step on.
func (e *expansion) transaction(i int) {
	t := &e.from.replicas[i].transaction
	if !t.open {
		return
	}
	if e.split && !t.read {
		w := e.next(stepReadHead, i)
		w.replicas[i].transaction.read, w.replicas[i].transaction.head = true, w.head
	}
	if !t.committed && (t.read || !e.split) {
		w := e.next(stepCommit, i)
		next := &w.replicas[i].transaction
		if !next.read {
			next.read, next.head = true, w.head
		}
		next.committed = true
		if !next.look {
			e.commit(w, i, next)
		}
		switch {
		case next.missing:
			e.relabel(stepCommitMissing)
		case next.refused:
			e.relabel(stepCommitRefused)
		}
		if e.mutation.unconfirmedSeen && next.look && e.from.failed {
			e.next(stepReadFormer, i).replicas[i].transaction = transaction{
				open: true, look: true, read: true, committed: true, head: w.former.head,
			}
		}
	}
	if t.committed {
		e.confirmed(i)
	}
	e.next(stepGiveUp, i).replicas[i].transaction = transaction{}
	if e.late && !t.committed && !t.look && !e.from.replicas[i].overdue.open {
		next := &e.next(stepLeaveLate, i).replicas[i]
		next.overdue = transaction{open: true, renewal: t.renewal}
		next.transaction = transaction{}
	}
}

// commit does what Renewal says the transaction does.
func (e *expansion) commit(w *world, i int, t *transaction) {
	stored, renewal := &w.rows[i], &t.renewal
	next := row{join: uint16(renewal.ID.Join), counter: uint16(renewal.Counter), applied: uint8(renewal.Applied)}
	unchecked := renewal.Join && e.mutation.uncheckedJoin || !renewal.Join && e.mutation.uncheckedRenewal
	switch {
	case !renewal.Join && stored.join != next.join:
		t.missing = true
	case w.replicas[i].stray && !unchecked:
		t.refused = true
	case renewal.Join && stored.join >= next.join && !e.mutation.lateJoinReplaces:
		t.missing = true
	case e.mutation.countOn && !renewal.Join:
		next.counter = stored.counter + 1
		fallthrough
	default:
		*stored = next
		r := &w.replicas[i]
		r.orphan = r.orphan && e.thoughtExpired(w, renewal.ID)
	}
}

func (e *expansion) confirmed(i int) {
	w := e.next(stepConfirmed, i)
	r := &w.replicas[i]
	t := r.transaction
	r.transaction = transaction{}
	r.holder = r.holder.clone()
	switch {
	case t.missing:
		if !t.renewal.Join {
			r.holder.Missing(t.renewal)
		}
		return
	case t.refused:
		e.givesUp(r)
		return
	}
	backwards := t.head < r.seen
	r.wentBack = r.wentBack || backwards && e.lossy
	r.seen = max(r.seen, t.head)
	if t.look {
		e.relabel(stepSeen)
		e.examined(i, r, &t, backwards)
		return
	}
	now := r.clock(w)
	if e.mutation.sentAfterCommit {
		t.renewal.sent = now
	}
	if e.mutation.staleConfirmation {
		now = t.renewal.sent
	}
	if h := r.holder; e.mutation.renewalRevives && h.phase == phaseOut && !t.renewal.Join && t.renewal.ID == h.id {
		h.phase, h.end = phaseJoined, now+1
	}
	err := r.holder.Committed(now, t.renewal, uint64(t.head))
	r.gaveUp = r.gaveUp && (err != nil || !t.renewal.Join)
	if errors.Is(err, ErrStoreWentBackwards) && !r.wentBack {
		e.violation("replica %d thinks that the store went backwards", i)
	}
	if e.mutation.backwardsForgotten && backwards {
		r.holder.refusal.Store(refusalNone)
	}
	if h := r.holder; e.mutation.headOfTheJoin && h.phase == phaseJoined {
		h.phase, h.required = phaseCatchingUp, uint64(t.head)
	}
}
