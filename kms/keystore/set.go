package keystore

import (
	"cmp"
	"slices"
	"sync"

	"github.com/keyholt/keyholt/kms"
)

// entry is what is kept in memory of a row: about 150 bytes with its name and its share
// of the map.
type entry struct {
	summand  digest
	revision kms.Revision
}

// set is the set of rows at one revision: which there are, and their digest.
type set struct {
	keyID  string // of the seal key that the summands come from
	head   kms.Head
	rows   map[rowID]entry
	counts counts
	sum    digest
}

func newSet(keyID string) *set { return &set{keyID: keyID, rows: make(map[rowID]entry)} }

// insert adds a row; false: it is there already.
func (s *set) insert(t *table, id rowID, e entry) bool {
	if _, ok := s.rows[id]; ok {
		return false
	}
	s.rows[id] = e
	s.counts[t.ordinal]++
	s.sum.add(&e.summand)
	return true
}

// index is the set of rows that was last seen in the store. It goes forward only, and
// only over what is known to be committed and has been verified. Its methods may be called
// concurrently.
type index struct {
	mu  sync.Mutex
	set *set // nil: nothing was seen yet

	// log holds the changes after floor in order of their revisions; of a row that changed
	// several times all but the last are stale.
	log   []logged
	floor kms.Revision
}

type logged struct {
	revision kms.Revision
	id       rowID
}

// logLimit bounds the log: beyond it only the newer half is kept.
const logLimit = 8192

// position returns the head that the index is at; it is of revision 0 while nothing was
// seen.
func (x *index) position() kms.Head {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.set == nil {
		return kms.Head{}
	}
	return x.set.head
}

// holds reports whether the index has a set whose summands come from the seal key.
func (x *index) holds(keyID string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.set != nil && x.set.keyID == keyID
}

// replace takes over a set that was read as a whole, unless the index is beyond it.
func (x *index) replace(s *set) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.set != nil && x.set.head.Revision >= s.head.Revision {
		return
	}
	x.set, x.log, x.floor = s, nil, s.head.Revision
}

// contradicts reports whether a set that was read as a whole did not come from the one
// that was last seen, as far as that shows: a row that has not changed since must be the
// same.
func (x *index) contradicts(s *set) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.set == nil || x.set.keyID != s.keyID || x.set.head.Revision > s.head.Revision {
		return false
	}
	for id, e := range s.rows {
		if e.revision <= x.set.head.Revision && x.set.rows[id] != e {
			return true
		}
	}
	return x.set.head.Revision == s.head.Revision && x.set.head != s.head
}

// lookup returns what is known of a row.
func (x *index) lookup(id rowID) (entry, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.set == nil {
		return entry{}, false
	}
	e, ok := x.set.rows[id]
	return e, ok
}

// begin starts a change of the set as it is. Nothing but the change itself may carry the
// index on until it is published or given up: the caller has the store's head locked.
func (x *index) begin() *pending {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.change(x.lookup)
}

// change starts a change, which looks up rows with base. The caller holds mu.
func (x *index) change(base func(rowID) (entry, bool)) *pending {
	return &pending{base: base, counts: x.set.counts, sum: x.set.sum, rows: make(map[rowID]entry)}
}

// publish makes a change that was committed the state of the index, unless the index has
// seen it by another way in the meantime.
func (x *index) publish(p *pending, keyID string, head kms.Head) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.set.keyID == keyID && x.set.head.Revision < head.Revision {
		x.apply(p, head)
	}
}

// apply puts the change into the set. The caller holds mu.
func (x *index) apply(p *pending, head kms.Head) {
	before := len(x.log)
	for id, e := range p.rows {
		if e.revision == 0 {
			delete(x.set.rows, id)
			continue
		}
		x.set.rows[id] = e
		x.log = append(x.log, logged{e.revision, id})
	}
	slices.SortFunc(x.log[before:], func(a, b logged) int { return cmp.Compare(a.revision, b.revision) })
	if excess := len(x.log) - logLimit/2; excess > logLimit/2 {
		x.floor = x.log[excess-1].revision
		x.log = slices.Clone(x.log[excess:])
	}
	x.set.head, x.set.counts, x.set.sum = head, p.counts, p.sum
}

// changedSince counts the rows whose revision is later. The caller holds mu.
func (x *index) changedSince(since kms.Revision) (n int) {
	if since < x.floor {
		for _, e := range x.set.rows {
			if e.revision > since {
				n++
			}
		}
		return n
	}
	for i := len(x.log) - 1; i >= 0 && x.log[i].revision > since; i-- {
		if x.set.rows[x.log[i].id].revision == x.log[i].revision {
			n++
		}
	}
	return n
}

// pending is a change of the set that is not committed yet. It is for one goroutine.
type pending struct {
	base   func(rowID) (entry, bool) // what is known without the change
	rows   map[rowID]entry           // what the change leaves; of revision 0: removed
	counts counts
	sum    digest
}

// lookup returns what is known of a row with the change made.
func (p *pending) lookup(id rowID) (entry, bool) {
	if e, ok := p.rows[id]; ok {
		return e, e.revision != 0
	}
	return p.base(id)
}

// put adds a row, or replaces the one that is known.
func (p *pending) put(t *table, id rowID, e entry) {
	p.remove(t, id)
	p.rows[id] = e
	p.counts[t.ordinal]++
	p.sum.add(&e.summand)
}

// remove takes a row out, if it is known.
func (p *pending) remove(t *table, id rowID) {
	if old, ok := p.lookup(id); ok {
		p.rows[id] = entry{}
		p.counts[t.ordinal]--
		p.sum.subtract(&old.summand)
	}
}
