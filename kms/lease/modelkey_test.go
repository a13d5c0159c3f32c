//go:build !race

package lease

import (
	"errors"
	"slices"
	"time"
)

// key is a world in canonical form. Two worlds with one key have the same future: clock
// readings count only by their distance, and not beyond what anything compares with;
// numbers of joins only by their order, and counters by which are equal, because each new one
// is new; replicas of one kind not by their index.
type key [1 + 2*maxReplicas]uint64

// errKey is a mistake in the model itself.
var errKey = errors.New("a world does not fit its key")

// packer fills a word from the lowest bit.
type packer struct {
	word     uint64
	used     uint
	overflow bool
}

func (p *packer) put(value, bits int) {
	p.word |= uint64(value) << p.used
	p.used += uint(bits)
	p.overflow = p.overflow || value < 0 || value>>bits != 0 || p.used > 64
}

func (p *packer) flag(b bool) {
	if b {
		p.put(1, 1)
	} else {
		p.put(0, 1)
	}
}

// ranks gives numbers that matter only by their order their places, from 1; 0 is none.
type ranks struct {
	values [12]uint32
	n      int
}

func (r *ranks) add(v uint32) {
	if v == 0 {
		return
	}
	i := 0
	for ; i < r.n && r.values[i] <= v; i++ {
		if r.values[i] == v {
			return
		}
	}
	copy(r.values[i+1:r.n+1], r.values[i:r.n])
	r.values[i] = v
	r.n++
}

// append is add for numbers that matter only by whether they are equal.
func (r *ranks) append(v uint32) {
	if v != 0 && r.of(v) == 0 {
		r.values[r.n] = v
		r.n++
	}
}

func (r *ranks) of(v uint32) int {
	for i := range r.n {
		if r.values[i] == v {
			return i + 1
		}
	}
	return 0
}

func (r row) pair() uint32 { return uint32(r.join)<<16 | uint32(r.counter) }

// clamp counts ticks, from 0 to most.
func clamp(d time.Duration, most int) int {
	return int(min(max(d, 0), time.Duration(most)*tick) / tick)
}

func (s *scenario) key(w *world) (key, error) {
	var k key
	var g packer
	g.put(int(w.head), 2)
	g.flag(w.failed)
	g.put(int(w.former.head), 2)
	for i := range s.changes {
		c := &w.calls[i]
		g.flag(c.wait != nil)
		g.flag(c.wait != nil && c.wait.begun)
		g.put(int(c.reading.stage), 2)
		g.put(int(c.reading.head), 2)
		g.flag(c.reading.confirmed)
		g.flag(c.returned)
		g.put(int(c.age), 5)
		g.flag(s.prompt && c.readOnce)
		if s.mutation.readingBefore && c.reading.stage != readNone { // nothing else looks at it
			g.put(clamp(s.callersClock(w)-c.reading.asked, s.expiryTicks()), 3)
		}
	}
	if s.lossy {
		s.putLoss(&g, w)
	}
	k[0] = g.word
	overflow := g.overflow
	first := 0 // of the replicas that may change places
	if s.insider {
		first = 1
	}
	var pairs [maxReplicas][2]uint64
	for i := range s.replicas {
		a, b := s.replicaKey(w, i)
		pairs[i] = [2]uint64{a.word, b.word}
		overflow = overflow || a.overflow || b.overflow
	}
	if overflow {
		return k, errKey
	}
	slices.SortFunc(pairs[first:s.replicas], func(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) })
	for i, p := range pairs[:s.replicas] {
		k[1+2*i], k[2+2*i] = p[0], p[1]
	}
	return k, nil
}

// replicaKey packs a replica with its rows, and what calls make of them.
func (s *scenario) replicaKey(w *world, i int) (a, b packer) {
	r := &w.replicas[i]
	h := r.holder
	var joins, counters ranks
	joins.add(uint32(h.id.Join))
	joins.add(uint32(r.overdue.renewal.ID.Join))
	for _, row := range []row{w.rows[i], w.former.rows[i]} {
		joins.add(uint32(row.join))
		counters.append(row.pair())
	}
	var waits [maxChanges]*other
	for k := range s.changes {
		c := &w.calls[k]
		joins.add(uint32(c.reading.rows[i].join))
		counters.append(c.reading.rows[i].pair())
		if c.wait == nil {
			continue
		}
		for j := range c.wait.others {
			t := &c.wait.others[j]
			matters := !c.returned || s.sweep && t.fate == fateExpired
			if t.row.ID.Instance == instances[i] && matters {
				waits[k] = t
				joins.add(uint32(t.row.ID.Join))
				counters.append(t.pair())
			}
		}
	}

	clock := r.clock(w)
	a.put(int(h.phase), 2)
	if h.phase != phaseOut {
		a.put(clamp(h.end-clock, s.ticks), 3)
		a.put(int(h.required), 2)
	} else {
		a.put(0, 5)
	}
	a.put(int(h.acknowledged), 2)
	a.put(joins.of(uint32(h.id.Join)), 3)
	a.flag(h.refusal.Load() != refusalNone)
	a.flag(r.left)
	a.put(int(r.lag), 1)
	a.put(int(r.applied), 2)
	a.put(int(r.op.stage), 2)
	a.put(int(r.op.snapshot), 2)
	if t := &r.transaction; t.open {
		a.flag(true)
		a.flag(t.renewal.Join)
		a.put(int(t.renewal.Applied), 2)
		if t.look {
			a.put(0, 3)
		} else {
			a.put(clamp(t.renewal.sent+h.duration-clock, s.ticks), 3)
		}
		a.flag(t.read)
		a.put(int(t.head), 2)
		a.flag(t.committed)
		a.flag(t.missing)
	} else {
		a.put(0, 12)
	}
	a.flag(r.overdue.open)
	a.flag(r.overdue.renewal.Join)
	a.put(int(r.overdue.renewal.Applied), 2)
	a.put(joins.of(uint32(r.overdue.renewal.ID.Join)), 3)
	putRow := func(p *packer, row row) {
		p.put(joins.of(uint32(row.join)), 3)
		p.put(counters.of(row.pair()), 3)
		p.put(int(row.applied), 2)
	}
	putRow(&a, w.rows[i])
	putRow(&a, w.former.rows[i])

	for k := range s.changes {
		c := &w.calls[k]
		t := waits[k]
		if t == nil {
			b.put(0, 15)
		} else {
			b.put(int(t.fate)+1, 3)
			b.put(joins.of(uint32(t.row.ID.Join)), 3)
			if t.fate == fateWaiting {
				b.put(counters.of(t.pair()), 3)
				b.put(clamp(s.callersClock(w)-t.since, s.expiryTicks()), 3)
				if c.reading.stage != readNone {
					b.put(clamp(c.reading.asked-t.since, s.expiryTicks()), 3)
				} else {
					b.put(0, 3)
				}
			} else {
				b.put(0, 9)
			}
		}
		putRow(&b, c.reading.rows[i])
	}
	if s.lossy || s.doubt {
		b.flag(r.gaveUp)
		b.flag(r.wentBack)
		b.flag(r.transaction.look)
		b.flag(r.transaction.refused)
	}
	if s.lossy {
		b.flag(r.stray)
		b.flag(r.orphan)
		b.put(int(r.seen), 2)
		b.put(int(h.known), 2)
		b.put(int(r.transaction.renewal.known), 2)
	}
	return a, b
}

func (t *other) pair() uint32 { return uint32(t.row.ID.Join)<<16 | uint32(t.row.Counter) }
