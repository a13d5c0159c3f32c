package kms

import (
	"context"
	"fmt"
	"time"

	"github.com/keyholt/keyholt/kms/lease"
)

// This file is what a replica sees of the others.

// sign is what was last seen of another replica's lease row.
type sign struct {
	counter uint64
	since   time.Duration // the counter was first seen
}

// watch looks at the lease rows, and removes those whose lease ended long ago, or was its
// own. It can be done the next time: a row may be locked by who stands still.
func (r *replica) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.interval()/2)
	defer cancel()
	rows, _, err := r.service.store.Leases(ctx, false)
	if err != nil {
		return err
	}
	dead := r.notice(rows, r.config.Clock())
	own := r.holder.ID().String()
	for _, row := range rows {
		// Its own leases but the last have lapsed: nobody has to wait to see that.
		if instance, _, ok := splitLeaseID(row.ID); ok && instance == r.instance && row.ID != own {
			dead = append(dead, row)
		}
	}
	for _, row := range dead {
		if err := r.service.store.RemoveLease(ctx, row.ID, row.Counter); err != nil {
			return err
		}
	}
	return nil
}

// deadAfter is for how many leases' time a row stands still before it is cleared away.
const deadAfter = 10

// notice remembers when each row's counter moved, and returns the rows of the dead.
func (r *replica) notice(rows []*Lease, now time.Duration) (dead []*Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := make(map[string]sign, len(rows))
	for _, row := range rows {
		was, known := r.seen[row.ID]
		if !known || was.counter != row.Counter {
			was = sign{row.Counter, now}
		}
		seen[row.ID] = was
		if now-was.since > deadAfter*(row.Duration+lease.Margin(row.Duration)) {
			dead = append(dead, row)
		}
	}
	r.seen = seen
	return dead
}

// idle is for how long the counter of a row has stood still, as far as was seen.
func (r *replica) idle(row *Lease) time.Duration {
	now := r.config.Clock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if was, known := r.seen[row.ID]; known && was.counter == row.Counter {
		return now - was.since
	}
	return 0
}

// findings are what there is to say of the replicas.
func (r *replica) findings(ctx context.Context) []Finding {
	if r.alone {
		return []Finding{{
			Area: "replicas", Check: "lease", Severity: SeverityOK, Detail: "one process on a store of its own: no lease is needed",
		}}
	}
	own := Finding{
		Area: "replicas", Check: "lease", Severity: SeverityOK,
		Detail: fmt.Sprintf("%s holds a lease of %s", r.config.Name, r.config.Lease),
	}
	if err := r.mayServe(); err != nil {
		own.Severity, own.Detail = SeverityError, err.Error()
		own.Remedy = "see that the metadata store answers, and that the clock of the machine runs"
	}
	all := Finding{Area: "replicas", Check: "others", Severity: SeverityOK}
	rows, head, err := r.service.store.Leases(ctx, false)
	if err != nil {
		all.Severity, all.Detail = SeverityError, "the leases cannot be read: "+err.Error()
		return []Finding{own, all}
	}
	r.notice(rows, r.config.Clock())
	named := make(map[string]int)
	all.Detail = fmt.Sprintf("%s on the store, which is at revision %d", Counted(len(rows), "lease"), head)
	for _, row := range rows {
		if r.idle(row) > row.Duration+lease.Margin(row.Duration) {
			all.Severity = SeverityWarning
			all.Detail += fmt.Sprintf("; %s has not renewed its lease for %s", row.Replica, r.idle(row).Round(time.Second))
			all.Remedy = "changes wait for such a replica once, until its lease has expired"
		} else if named[row.Replica]++; named[row.Replica] == 2 {
			all.Severity = SeverityWarning
			all.Detail += fmt.Sprintf("; several have the name %s", row.Replica)
			all.Remedy = "give each a replica.name of its own: what a change tells of them cannot be told apart"
		}
	}
	return []Finding{own, all}
}
