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
	if k := int(e.from.head); k < e.changes {
		w := e.next(stepChange, k+1)
		w.head++
		self := ""
		if e.insider {
			self = instances[0]
		}
		w.calls[k].wait = NewWait(uint64(k+1), self)
	}
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
	if r.applied < e.from.head {
		e.next(stepApply, i).replicas[i].applied++
	}
	caughtUp := r.acknowledged()
	if e.mutation.catchUpApplied || e.mutation.acknowledgeApplied {
		caughtUp = r.applied
	}
	if e.mutation.serveBeforeCatchUp {
		caughtUp = e.from.head
	}
	if h := r.holder; h.phase == phaseCatchingUp && uint64(caughtUp) >= h.required {
		h = h.clone()
		h.CaughtUp(uint64(caughtUp))
		if e.mutation.serveBeforeCatchUp {
			h.acknowledged = r.holder.acknowledged
		}
		e.next(stepCatchUp, i).replicas[i].holder = h
	}
}

func (e *expansion) begin(i int) {
	r := &e.from.replicas[i]
	if r.transaction.open || e.silent && e.from.head > 0 {
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
		if e.commit(w, i, next); next.missing {
			e.relabel(stepCommitMissing)
		}
	}
	if t.committed {
		e.confirmed(i)
	}
	e.next(stepGiveUp, i).replicas[i].transaction = transaction{}
	if e.late && !t.committed && !e.from.replicas[i].overdue.open {
		next := &e.next(stepLeaveLate, i).replicas[i]
		next.overdue = transaction{open: true, renewal: t.renewal}
		next.transaction = transaction{}
	}
}

// commit does what Renewal says the transaction does.
func (e *expansion) commit(w *world, i int, t *transaction) {
	row, renewal := &w.rows[i], &t.renewal
	join := uint16(renewal.ID.Join)
	switch {
	case renewal.Join && (row.join < join || e.mutation.lateJoinReplaces):
		*row = rowOf(join, 1, renewal.Applied)
	case !renewal.Join && row.join == join:
		*row = rowOf(join, row.counter+1, renewal.Applied)
	default:
		t.missing = true
	}
}

func rowOf(join, counter uint16, applied uint64) row {
	return row{join: join, counter: counter, applied: uint8(applied)}
}

func (e *expansion) confirmed(i int) {
	w := e.next(stepConfirmed, i)
	r := &w.replicas[i]
	t := r.transaction
	r.transaction = transaction{}
	r.holder = r.holder.clone()
	if t.missing {
		if !t.renewal.Join {
			r.holder.Missing(t.renewal)
		}
		return
	}
	now := r.clock(w)
	if e.mutation.sentAfterCommit {
		t.renewal.sent = now
	}
	if e.mutation.staleConfirmation {
		now = t.renewal.sent
	}
	if err := r.holder.Committed(now, t.renewal, uint64(t.head)); errors.Is(err, ErrStoreWentBackwards) {
		e.violation("replica %d thinks that the store went backwards", i)
	}
	if h := r.holder; e.mutation.headOfTheJoin && h.phase == phaseJoined {
		h.phase, h.required = phaseCatchingUp, uint64(t.head)
	}
}
