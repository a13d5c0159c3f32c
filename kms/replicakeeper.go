package kms

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyholt/keyholt/kms/lease"
)

// This file is the goroutine that keeps the lease: it renews it, applies what others have
// changed, and acknowledges it.

// keep applies and acknowledges changes and renews the lease, until ctx ends.
func (r *replica) keep(ctx context.Context) {
	for {
		rest := r.tend(ctx)
		timer := time.NewTimer(rest)
		select {
		case <-timer.C:
		case <-r.nudge:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// leastRest is the least time between two looks at the store that nobody asked for.
const leastRest = 10 * time.Millisecond

// interval is how long after the last renewal the next is due.
func (r *replica) interval() time.Duration { return r.config.Lease / 3 }

// spare is for how long other work may put a renewal off: until it is due, or a sixth of
// the lease.
func (r *replica) spare() time.Duration {
	return max(r.interval()/2, r.interval()-(r.config.Clock()-r.renewed))
}

// tend does what there is to do for the lease, and returns how long to rest. A renewal
// that is due comes before all else, and nothing else takes so long that the next is late.
func (r *replica) tend(ctx context.Context) time.Duration {
	var err error
	switch {
	case r.doubtful.Load():
		err = r.examine(ctx)
	case r.config.Clock()-r.renewed >= r.interval() || r.holder.Refusal() != nil:
		if err = r.renewInTime(ctx, r.acknowledged()); err == nil {
			err = r.watch(ctx)
		}
	}
	err = firstError(err, r.look(ctx))
	r.service.anchors.ask(r.service.snapshot.Load().head)
	if r.doubtful.Load() {
		r.holder.GiveUp()
	}
	acknowledged := r.acknowledged()
	r.holder.CaughtUp(uint64(acknowledged))
	if acknowledged > r.told && !r.doubtful.Load() {
		err = firstError(err, r.renewInTime(ctx, acknowledged))
	}
	r.report(ctx, err)
	if r.holder.Refusal() != nil || err != nil {
		r.troubled = r.config.Clock()
		return min(r.interval(), 100*time.Millisecond)
	}
	rest := max(leastRest, r.interval()-(r.config.Clock()-r.renewed))
	if r.config.Clock()-r.troubled < deafFor {
		rest = min(rest, deafPoll)
	}
	return rest
}

// look catches up with the store. It waits for that no longer than it can be spared: a
// change that is being committed here may hang, and what hangs goes on being waited for
// by a goroutine of its own.
func (r *replica) look(ctx context.Context) error {
	spare := time.NewTimer(r.spare())
	defer spare.Stop()
	for {
		looking := r.looking
		if looking == nil {
			looking = make(chan error, 1)
			r.running.Go(func() {
				bounded, cancel := context.WithTimeout(ctx, r.patience())
				defer cancel()
				looking <- r.service.refresh(bounded)
			})
		}
		begunBefore := r.looking != nil
		r.looking = looking
		select {
		case err := <-looking:
			r.looking, r.looked = nil, err
			if err != nil || !begunBefore {
				return err
			}
			// It may have read before that happened for which one is to look now.
		case <-spare.C:
			return r.looked
		}
	}
}

// When the store answers again, its notifications may not come yet, so changes are looked for.
const (
	deafFor  = 3 * time.Second
	deafPoll = 20 * time.Millisecond
)

// examine looks at a store that has lost, or never had, changes that this replica has
// applied. While it is so no lease is gained: the store may be at the revision that the
// replica has applied and mean other changes by it. If it is not a former primary that has
// answered, but the store itself that went backwards, that is for good.
func (r *replica) examine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	_, head, err := r.service.store.Leases(ctx, true)
	if err != nil {
		return err
	}
	if err := r.holder.Seen(uint64(head)); err != nil {
		return errorf(ErrStoreWentBack, "%v", err)
	}
	return nil
}

// outage is what the log is told of the times in which the lease or the metadata cannot be
// renewed. Attempts follow each other ten times a second, and the texts of their errors
// differ, if only by the number of a port.
type outage struct {
	told     bool // that there is one
	last     time.Duration
	failures int // since then, of which nothing was said
}

const (
	// outagePause is the least time between two lines of one outage.
	outagePause = time.Minute
	// outageGap is that between the lines of two.
	outageGap = time.Second
)

// report logs what goes wrong when it begins and, while it lasts, now and then; and when it
// has ended.
func (r *replica) report(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	o, now := &r.outage, r.config.Clock()
	pause := outageGap
	if o.told {
		pause = outagePause
	}
	switch {
	case err == nil && o.told:
		o.told = false
		r.service.log.InfoContext(ctx, "lease and metadata are renewed again",
			slog.Uint64("revision", uint64(r.service.snapshot.Load().Revision())))
	case err == nil:
	case o.last != 0 && now-o.last < pause:
		o.failures++
	default:
		r.service.log.ErrorContext(ctx, "the lease or the metadata cannot be renewed",
			slog.String("error", causeOf(err)), slog.Int("failures_before", o.failures))
		*o = outage{told: true, last: now}
	}
}

// renewInTime is renew for as long as the renewal can be of use.
func (r *replica) renewInTime(ctx context.Context, acknowledged Revision) error {
	bounded, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	return r.renew(bounded, acknowledged)
}

// renew does one transaction for the lease: it joins where there is none, and renews it else.
func (r *replica) renew(ctx context.Context, acknowledged Revision) error {
	sent := r.config.Clock()
	renewal, err := r.holder.Begin(sent, uint64(acknowledged))
	if errors.Is(err, lease.ErrBehind) {
		return nil // as soon as more is acknowledged
	}
	if err != nil {
		return errorf(ErrStoreWentBack, "%v", err)
	}
	row := &Lease{
		ID: renewal.ID.String(), Counter: renewal.Counter, Applied: Revision(renewal.Applied), Duration: renewal.Duration,
		Replica: r.config.Name, Release: r.config.Release, StartTime: r.began,
	}
	var head Revision
	if renewal.Join {
		head, err = r.service.store.InsertLease(ctx, row)
	} else {
		head, err = r.service.store.RenewLease(ctx, row)
	}
	switch {
	case errors.Is(err, ErrLeaseGone):
		r.holder.Missing(renewal)
	case errors.Is(err, ErrStoreWentBack):
		r.doubtful.Store(true)
		r.holder.GiveUp()
	}
	if err != nil {
		return err
	}
	if err := r.holder.Committed(r.config.Clock(), renewal, uint64(head)); err != nil {
		return errorf(ErrLeaseLapsed, "%v", err)
	}
	r.told, r.renewed = Revision(renewal.Applied), sent
	if renewal.Join {
		r.renewed = sent - r.config.Lease // the renewal that reads the revision follows at once
	}
	return nil
}
