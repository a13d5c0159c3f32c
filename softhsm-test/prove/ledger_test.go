package prove

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// target is a key version that is used until it is revoked or disabled, and what became
// known of that.
type target struct {
	version kms.VersionName
	keys    []dataKey
	begun   atomic.Bool // the call that ends its use was about to be made

	mu   sync.Mutex
	uses []use
	end  *change // nil until the call has returned
}

// use is a request in which items of a target were worked on after a replica had found
// them allowed.
type use struct {
	sent    time.Duration // by bootTime, read before the request was handed to the connection
	replica string
	items   int
	// walled: they were not served, because the token refused; the replica would have.
	walled bool
}

// change is a call that all replicas must know of when it has returned.
type change struct {
	target   *target // whose use it ended; nil: none
	action   kms.Action
	fault    fault
	replica  string        // that was called
	took     time.Duration // from the first attempt to the answer
	returned time.Duration // by bootTime, read after the answer had come
	spread   kms.Spread
	// repeats is how often the call was answered that it should be made again, by reason.
	repeats map[string]int
}

// class is the fault that the call suffered.
func (c *change) class() fault {
	if c.fault == noFault && len(c.spread.Expired) > 0 {
		return afterFault
	}
	return c.fault
}

func (t *target) used(u use) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.uses = append(t.uses, u)
}

func (t *target) ended(c *change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.target = t
	t.end = c
}

func (t *target) change() *change {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.end
}

// clientVerdict is what the clients saw, in items.
type clientVerdict struct {
	served int // in all
	late   int // served, and sent after the call had returned
	// walled were sent after the call had returned and found allowed, and only the token
	// refused them.
	walled int
	first  *use // of those that are late or walled
}

// judgeClients counts what clients were served of the targets.
func judgeClients(targets []*target) (v clientVerdict) {
	for _, t := range targets {
		t.mu.Lock()
		for _, u := range t.uses {
			if !u.walled {
				v.served += u.items
			}
			if t.end == nil || u.sent <= t.end.returned {
				continue
			}
			if v.first == nil {
				v.first = &u
			}
			if u.walled {
				v.walled += u.items
			} else {
				v.late += u.items
			}
		}
		t.mu.Unlock()
	}
	return v
}

// changesOf lists what was changed, in the order in which the calls returned.
func changesOf(targets []*target) []*change {
	var all []*change
	for _, t := range targets {
		if end := t.change(); end != nil {
			all = append(all, end)
		}
	}
	sortChanges(all)
	return all
}

func sortChanges(all []*change) {
	slices.SortFunc(all, func(a, b *change) int { return cmp.Compare(a.returned, b.returned) })
}
