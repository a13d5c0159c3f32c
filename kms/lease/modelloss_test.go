//go:build !race

package lease

import (
	"errors"
	"slices"
)

// This file is what the model makes of a store that loses changes, and of replicas that
// doubt theirs.

// loss: the store falls back to the last that a standby has received. Which that will be is
// decided when it is received.
func (e *expansion) loss() {
	switch {
	case !e.lossy || e.from.failed:
		return
	case !e.from.received:
		w := e.next(stepReceive, 0)
		w.received, w.former = true, former{w.head, w.rows}
		return
	}
	w := e.next(stepLoss, 0)
	w.failed, w.received, w.fork, w.lostAt = true, false, w.former.head, w.now
	before := w.rows
	w.head, w.rows, w.former = w.former.head, w.former.rows, former{}
	for k := range w.calls {
		if c := &w.calls[k]; c.revision > w.fork {
			*c = call{revision: c.revision, lost: true, returned: true}
		}
	}
	for i := range w.replicas {
		r := &w.replicas[i]
		if !r.transaction.committed {
			r.transaction = transaction{}
		}
		r.overdue = transaction{}
		r.stray = r.applied > w.fork
		r.orphan = i < e.replicas && r.holder.phase != phaseOut && w.rows[i] != before[i]
	}
}

// thoughtExpired reports whether some caller thinks so of a lease, or may by what it has read.
func (e *expansion) thoughtExpired(w *world, id ID) bool {
	for k := range e.changes {
		c := &w.calls[k]
		if c.reading.stage == readDone {
			return true
		}
		if c.wait != nil && slices.ContainsFunc(c.wait.others, func(t other) bool { return t.row.ID == id && t.fate == fateExpired }) {
			return true
		}
	}
	return false
}

// contains reports whether a snapshot of the replica holds the change of a call.
func (r *replica) contains(w *world, snapshot uint8, c *call) bool {
	return snapshot >= c.revision && (!r.stray || c.revision <= w.fork)
}

// knowsAll reports whether there is no change, and will be none, that a snapshot of the
// replica knows nothing of.
func (s *scenario) knowsAll(w *world, r *replica, snapshot uint8) bool {
	for k := range s.changes {
		if c := &w.calls[k]; !c.lost && (c.revision == 0 || !r.contains(w, snapshot, c)) {
			return false
		}
	}
	return true
}

// orphanTicks is for how long after the loss the promise may not hold of a lease whose last
// renewal was lost: until it would have ended, and if it is renewed at the last moment until
// that ends. The next renewal waits until the replica has acknowledged what it knew then.
func (s *scenario) orphanTicks() int {
	ticks := 2 * (s.ticks - marginTicks)
	if s.slowClocks {
		ticks++
	}
	return ticks
}

// putLoss packs what there is to know of changes that may be lost.
func (s *scenario) putLoss(g *packer, w *world) {
	g.flag(w.received)
	g.put(int(w.fork), 2)
	for k := range s.changes {
		g.put(int(w.calls[k].revision), 2)
		g.flag(w.calls[k].lost)
	}
	orphaned := slices.ContainsFunc(w.replicas[:s.replicas], func(r replica) bool { return r.orphan })
	if orphaned {
		g.put(min(w.now-w.lostAt, s.orphanTicks()), 4)
	}
}

// doubts: a replica gives up its lease, or examines the store.
func (e *expansion) doubts(i int) {
	r := &e.from.replicas[i]
	if !e.doubt {
		return
	}
	if r.holder.phase != phaseOut {
		e.givesUp(&e.next(stepGiveUpLease, i).replicas[i])
	}
	if !r.transaction.open && (!e.silent || e.from.made == 0) {
		e.next(stepExamine, i).replicas[i].transaction = transaction{open: true, look: true}
	}
}

// givesUp changes a replica of a new world.
func (e *expansion) givesUp(r *replica) {
	r.gaveUp = true
	if e.mutation.keepLease {
		return
	}
	r.holder = r.holder.clone()
	r.holder.GiveUp()
	if e.mutation.giveUpForgets {
		r.holder.known, r.holder.acknowledged = 0, 0
	}
}

// examined hands the outcome of an examination to the holder.
func (e *expansion) examined(i int, r *replica, t *transaction, backwards bool) {
	if e.mutation.seenIgnored {
		return
	}
	if err := r.holder.Seen(uint64(t.head)); errors.Is(err, ErrStoreWentBackwards) && !r.wentBack {
		e.violation("replica %d thinks that the store went backwards", i)
	}
	if e.mutation.seenForgotten && backwards {
		r.holder.refusal.Store(refusalNone)
	}
}
