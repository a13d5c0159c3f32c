package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyholt/keyholt/kms/lease"
)

const (
	// spreadReserve is how long before its caller's deadline a change that is not known
	// everywhere yet is answered.
	spreadReserve = 100 * time.Millisecond
	// spreadPoll is how often the lease rows are read when nobody tells of a change.
	spreadPoll = 25 * time.Millisecond
)

// spread waits until each replica has applied everything up to a revision that is
// committed, or is seen to hold no lease. If the caller's deadline comes first it is
// ErrStillSpreading; the Spread tells what is known by then, and a repeated call for the
// same revision waits for what is left.
func (s *Service) spread(ctx context.Context, r Revision) (Spread, error) {
	began := s.replica.config.Clock()
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-spreadReserve))
		defer cancel()
	} else {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, changeTimeout)
		defer cancel()
	}
	w := s.replica.waitFor(r)
	var failure error
	for {
		stirred := s.replica.stirred()
		known := s.replica.acknowledged() >= r && !s.replica.doubts()
		others, err := w.look(ctx)
		if err != nil {
			failure = err
		}
		if known && others {
			w.forget(ctx)
			s.anchors.wait(ctx, r)
			return w.result(r, began), nil
		}
		timer := time.NewTimer(w.pause())
		select {
		case <-stirred:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			result, err := w.result(r, began), w.stillSpreading(r, known, failure)
			s.replica.putOff(r, w)
			return result, err
		}
		timer.Stop()
	}
}

// spreadMeanwhile begins what spread does, and returns the function that waits for it.
func (s *Service) spreadMeanwhile(ctx context.Context, r Revision) (wait func() (Spread, error)) {
	var spread Spread
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		spread, err = s.spread(ctx, r)
	}()
	return func() (Spread, error) {
		<-done
		return spread, err
	}
}

// spreading is one wait for the other replicas.
type spreading struct {
	service *Service
	wait    *lease.Wait
	names   map[string]*Lease // rows by ID
	expiry  bool              // the next reading may show that a lease has expired
}

// waitsKept is how many waits that have not ended are kept for who repeats their calls.
const waitsKept = 64

// waitFor begins the wait for a revision, or goes on with one that an earlier call had to
// give up: what was seen of the others since that revision was committed still holds.
func (r *replica) waitFor(revision Revision) *spreading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if w, ok := r.putOffs[revision]; ok {
		delete(r.putOffs, revision)
		return w
	}
	return &spreading{service: r.service, wait: lease.NewWait(uint64(revision), r.instance), names: make(map[string]*Lease)}
}

// putOff keeps a wait that has not ended, and forgets those of the lowest revisions.
func (r *replica) putOff(revision Revision, w *spreading) {
	if r.alone {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.putOffs[revision]; ok {
		return // of another call for the same: which began earlier does not matter much
	}
	r.putOffs[revision] = w
	if len(r.putOffs) > waitsKept {
		delete(r.putOffs, slices.Min(slices.Collect(maps.Keys(r.putOffs))))
	}
}

// look reads the lease rows and reports whether there is nobody to wait for any more.
func (w *spreading) look(ctx context.Context) (done bool, err error) {
	r := &w.service.replica
	if r.alone {
		return true, nil
	}
	bounded, cancel := context.WithTimeout(ctx, r.patience())
	defer cancel()
	o := lease.Observation{Asked: r.config.Clock(), Confirmed: w.expiry}
	w.expiry = false // until a reading shows it: a store that fails is not asked again at once
	rows, head, err := w.service.store.Leases(bounded, o.Confirmed)
	if err != nil {
		return false, err
	}
	o.Answered, o.Head = r.config.Clock(), uint64(head)
	for _, row := range rows {
		instance, join, ok := splitLeaseID(row.ID)
		if !ok {
			continue // no replica of ours has made it
		}
		w.names[row.ID] = row
		o.Rows = append(o.Rows, lease.Row{
			ID: lease.ID{Instance: instance, Join: join}, Counter: row.Counter,
			Applied: uint64(row.Applied), Duration: row.Duration,
		})
	}
	done, err = w.wait.Observe(o)
	if err != nil {
		return false, errorf(ErrStoreWentBack, "%v", err)
	}
	w.expiry = !done && w.wait.Next(r.config.Clock()) <= 0
	return done, nil
}

// pause is how long to wait for news before the rows are read again.
func (w *spreading) pause() time.Duration {
	r := &w.service.replica
	if r.alone {
		return time.Millisecond
	}
	if w.expiry {
		return 0
	}
	pause := spreadPoll
	if next := w.wait.Next(r.config.Clock()); next > 0 && next <= pause {
		pause = next
		w.expiry = true
	}
	return pause
}

// forget removes the rows of replicas whose lease was seen to have expired, so that
// nobody has to wait for them again.
func (w *spreading) forget(ctx context.Context) {
	for _, id := range w.wait.Result().Expired {
		row := w.names[id.String()]
		w.service.log.WarnContext(ctx, "a replica has lost its lease and was not waited for",
			slog.String("replica", row.Replica), slog.String("lease", row.ID))
		if err := w.service.store.RemoveLease(ctx, row.ID, row.Counter); err != nil {
			w.service.log.WarnContext(ctx, "the row of an expired lease remains", slog.Any("error", causeOf(err)))
		}
	}
}

func (w *spreading) result(r Revision, began time.Duration) Spread {
	result := w.wait.Result()
	return Spread{
		Revision:     r,
		Acknowledged: append([]string{w.service.replica.config.Name}, w.replicas(result.Acknowledged)...),
		Expired:      w.replicas(append(result.Expired, result.Gone...)),
		Took:         w.service.replica.config.Clock() - began,
	}
}

func (w *spreading) replicas(ids []lease.ID) (names []string) {
	for _, id := range ids {
		if row, ok := w.names[id.String()]; ok {
			names = append(names, row.Replica)
		}
	}
	return names
}

func (w *spreading) stillSpreading(r Revision, known bool, failure error) error {
	waiting := w.replicas(w.wait.Result().Waiting)
	if !known {
		waiting = append(waiting, w.service.replica.config.Name)
	}
	message := fmt.Sprintf("the change is committed at revision %d, and not known yet by %s; repeat the call to wait on",
		r, strings.Join(waiting, ", "))
	if len(waiting) == 0 {
		message = fmt.Sprintf("the change is committed at revision %d, and the leases of the replicas cannot be read; "+
			"repeat the call to wait on", r)
	}
	e := errorf(ErrStillSpreading, "%s", message).with("revision", strconv.FormatUint(uint64(r), 10)).
		with("waiting_for", strings.Join(waiting, ","))
	if failure != nil && !errors.Is(failure, context.DeadlineExceeded) {
		e = e.because(failure)
	}
	return e
}

// splitLeaseID reads what lease.ID.String has made.
func splitLeaseID(id string) (instance string, join uint64, ok bool) {
	instance, number, ok := strings.Cut(id, "/")
	if !ok {
		return "", 0, false
	}
	join, err := strconv.ParseUint(number, 10, 64)
	return instance, join, err == nil
}

// lockStore takes a lock that excludes the other replicas. It is always taken after the
// process's own.
func (s *Service) lockStore(ctx context.Context, name string) (unlock func(), err error) {
	if s.store.Exclusive() {
		return func() {}, nil
	}
	return s.store.Lock(ctx, name)
}

// tryLockStore is lockStore, but free is false at once if another replica holds the lock.
func (s *Service) tryLockStore(ctx context.Context, name string) (unlock func(), free bool, err error) {
	if s.store.Exclusive() {
		return func() {}, true, nil
	}
	return s.store.TryLock(ctx, name)
}
