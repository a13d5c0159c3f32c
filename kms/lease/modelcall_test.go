//go:build !race

package lease

import (
	"errors"
	"slices"
)

// operation takes the one operation of a replica through its final check.
func (e *expansion) operation(i int) {
	r := &e.from.replicas[i]
	passed := func(snapshot uint8) {
		switch {
		case r.gaveUp:
			e.violation("replica %d passes a final check, and has given up its lease", i)
		case r.wentBack:
			e.violation("replica %d passes a final check, and has seen the store go backwards", i)
		case r.orphan && !e.mutation.noException:
			if e.from.now-e.from.lostAt >= e.orphanTicks() {
				e.violation("replica %d passes a final check by a lease that is lost and should have ended", i)
			}
			return
		}
		for k := range e.changes {
			if c := &e.from.calls[k]; c.returned && !c.lost && !r.contains(e.from, snapshot, c) {
				e.violation("replica %d passes a final check under snapshot %d after the call of change %d has returned",
					i, snapshot, k+1)
			}
		}
	}
	switch r.op.stage {
	case opNone:
		switch {
		case e.knowsAll(e.from, r, r.applied) && !r.gaveUp && !r.wentBack: // it would try a version that nothing revokes
		case !e.mutation.leaseBeforeState:
			e.next(stepEnter, i).replicas[i].op = operation{opEntered, r.applied}
		case r.holder.MayServe(r.clock(e.from)):
			e.next(stepEnter, i).replicas[i].op = operation{stage: opLeased}
		}
	case opLeased:
		if !e.knowsAll(e.from, r, r.applied) {
			e.next(stepPassed, i).replicas[i].op = operation{opPassed, r.applied}
			passed(r.applied)
		}
	case opEntered:
		if !r.holder.MayServe(r.clock(e.from)) {
			e.next(stepRefused, i).replicas[i].op = operation{}
			return
		}
		e.next(stepPassed, i).replicas[i].op.stage = opPassed
		passed(r.op.snapshot)
	case opPassed:
		e.next(stepHandOver, i).replicas[i].op = operation{}
	}
}

// leaving: a replica stops for good, and removes its row once it is idle.
func (e *expansion) leaving(i int) {
	r := &e.from.replicas[i]
	if !e.leave || r.left {
		return
	}
	stopped := errors.Is(r.holder.Refusal(), ErrLeft)
	if !stopped {
		next := &e.next(stepStop, i).replicas[i]
		next.holder = r.holder.clone()
		next.holder.Leave()
	}
	if stopped && r.op.stage == opNone || e.mutation.removeBeforeStop && !stopped {
		w := e.next(stepRemoveRow, i)
		if w.rows[i].join == uint16(r.holder.ID().Join) {
			w.rows[i] = row{}
		}
		w.replicas[i].left = stopped
	}
}

// call: who made change k+1 waits.
func (e *expansion) call(k int) {
	c := &e.from.calls[k]
	if c.wait == nil {
		return
	}
	if c.returned {
		e.sweepRows(k)
		return
	}
	switch c.reading.stage {
	case readNone:
		if c.wait.done() {
			e.returns(k)
			return
		}
		if e.prompt && c.readOnce {
			return
		}
		next := &e.next(stepAsk, k+1).calls[k]
		next.reading = reading{stage: readAsked, asked: e.callersClock(e.from)}
	case readAsked:
		w := e.next(stepRead, k+1)
		w.calls[k].reading = reading{stage: readDone, asked: c.reading.asked, head: w.head, rows: w.rows, confirmed: true}
		if e.failOver && e.from.failed && !e.prompt {
			w := e.next(stepReadFormer, k+1)
			w.calls[k].reading = reading{stage: readDone, asked: c.reading.asked, head: w.former.head, rows: w.former.rows}
		}
	case readDone:
		e.observe(k)
	}
}

func (e *expansion) observe(k int) {
	w := e.next(stepObserve, k+1)
	c := &w.calls[k]
	o := Observation{
		Asked: c.reading.asked, Answered: e.callersClock(w), Head: uint64(c.reading.head), Confirmed: c.reading.confirmed,
	}
	switch m := e.mutation; {
	case m.readingBefore:
		o.Answered = o.Asked
	case m.readingAfter:
		o.Asked = o.Answered
	case m.unconfirmedExpiry:
		o.Confirmed = o.Confirmed || o.Head >= uint64(c.revision)
	case m.anyHead:
		o.Head = uint64(e.changes)
	}
	for i, row := range c.reading.rows[:e.replicas] {
		if row.join == 0 {
			continue
		}
		r := Row{
			ID: ID{Instance: instances[i], Join: uint64(row.join)}, Counter: uint64(row.counter),
			Applied: uint64(row.applied), Duration: e.duration(),
		}
		if e.mutation.noMargin {
			r.Duration -= marginTicks * tick
		}
		if e.mutation.counterIgnored {
			r.Counter = 0
		}
		o.Rows = append(o.Rows, r)
	}
	c.reading = reading{}
	c.readOnce = true
	c.wait = c.wait.clone()
	if _, err := c.wait.Observe(o); err != nil {
		e.violation("the caller of change %d: %v", k+1, err)
	}
}

// returns ends a call, when the caller's own process has acknowledged too.
func (e *expansion) returns(k int) {
	if e.insider && e.from.replicas[0].acknowledged() < e.from.calls[k].revision {
		return
	}
	w := e.next(stepReturn, k+1)
	c := &w.calls[k]
	c.returned, c.age = true, 0
	for _, t := range c.wait.others {
		i := slices.Index(instances[:], t.row.ID.Instance)
		r := &w.replicas[i]
		if t.fate == fateAcknowledged && r.op.stage == opPassed && !r.contains(w, r.op.snapshot, c) {
			e.violation("replica %d has acknowledged change %d and still holds a result checked before", i, k+1)
		}
	}
}

// sweepRows removes rows that the call has seen expire.
func (e *expansion) sweepRows(k int) {
	if !e.sweep {
		return
	}
	for _, id := range e.from.calls[k].wait.Result().Expired {
		i := slices.Index(instances[:], id.Instance)
		if e.from.rows[i].join == uint16(id.Join) {
			e.next(stepSweep, i).rows[i] = row{}
		}
	}
}
