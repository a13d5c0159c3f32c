package kms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/kms/lease"
)

// ReplicaConfig says how a service takes its place among the replicas on its store. An
// exclusive store has one only, which needs no lease.
type ReplicaConfig struct {
	Name    string               // for operators; default: host name and process id
	Release string               // for operators
	Lease   time.Duration        // default 5 s
	Clock   func() time.Duration // nil: CLOCK_BOOTTIME; it must go on while the machine sleeps
}

// The bounds of a lease.
const (
	DefaultLease = 5 * time.Second
	MinLease     = 500 * time.Millisecond
	MaxLease     = time.Minute
)

// replica keeps the service's lease, applies what others change, and acknowledges it.
// What it decides is decided by package lease.
type replica struct {
	service  *Service
	config   ReplicaConfig
	alone    bool // the store is exclusive
	instance string
	began    time.Time
	holder   *lease.Holder
	outdated atomic.Bool // a commit's outcome is unknown
	doubtful atomic.Bool // the store is not what was read of it before

	cancel  context.CancelFunc
	running sync.WaitGroup
	nudge   chan struct{} // there may be something to apply or to acknowledge

	// For the goroutine that keeps the lease.
	told     Revision      // the highest revision acknowledged to the others
	renewed  time.Duration // when the last renewal was sent
	failing  string        // what went wrong last time, so as to log it once
	troubled time.Duration // when the lease or the metadata could last not be renewed
	looking  chan error    // nil, or gets the outcome of the look at the store that is under way
	looked   error         // outcome of the last look that has ended

	learning learning

	mu    sync.Mutex
	older []*Snapshot     // replaced, and results may still be on their way under them
	stir  chan struct{}   // closed and replaced when waiters are to look again
	seen  map[string]sign // of life, by lease ID
}

// sign is what was last seen of another replica's lease row.
type sign struct {
	counter uint64
	since   time.Duration // the counter was first seen
}

func (r *replica) init(s *Service, c ReplicaConfig) {
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.Clock == nil {
		c.Clock = bootTime
	}
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		c.Name = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	*r = replica{
		service: s, config: c, alone: s.store.Exclusive(), instance: hex.EncodeToString(random[:]), began: s.now(),
		nudge: make(chan struct{}, 1), stir: make(chan struct{}), learning: learning{turn: newMutex()}, seen: make(map[string]sign),
	}
	r.holder = lease.NewHolder(r.instance, c.Lease)
}

// enter gains a lease: the row first, then, in a later transaction, the revision that
// must be applied before anything is served.
func (r *replica) enter(ctx context.Context) error {
	if r.alone {
		return nil
	}
	for range 2 {
		if err := r.renew(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

// start begins to keep the lease. The service has a snapshot by now.
func (r *replica) start() {
	if r.alone {
		return
	}
	r.holder.CaughtUp(uint64(r.acknowledged()))
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() { r.keep(ctx) })
	r.running.Go(func() { r.service.store.Listen(ctx, r.wake) })
}

// stop ends that, and gives up the lease. No request is under way any more.
func (r *replica) stop() {
	if r.cancel != nil {
		r.cancel()
		r.running.Wait()
	}
	r.leave()
}

// leave removes the lease row, so that nobody waits for it.
func (r *replica) leave() {
	if r.alone {
		return
	}
	r.holder.Leave()
	ctx, cancel := context.WithTimeout(context.Background(), r.patience())
	defer cancel()
	rows, _, err := r.service.store.Leases(ctx, false)
	for _, row := range rows {
		if instance, _, ok := splitLeaseID(row.ID); ok && instance == r.instance && err == nil {
			err = r.service.store.RemoveLease(ctx, row.ID, 0)
		}
	}
	if err != nil {
		r.service.log.WarnContext(ctx, "the lease row could not be removed; the next change waits until it has expired",
			slog.Any("error", causeOf(err)))
	}
}

// patience bounds one transaction of the lease: one that takes longer is of no use.
func (r *replica) patience() time.Duration { return max(time.Second, r.config.Lease) }

// mayServe says why nothing can be served now; nil: it can.
func (r *replica) mayServe() error {
	if r.alone {
		return nil
	}
	_, err := r.mayServeAt()
	return err
}

// mayServeAt is mayServe with the reading of the clock on which it decided.
func (r *replica) mayServeAt() (time.Duration, error) {
	now := r.config.Clock()
	doubtful := r.doubtful.Load()
	if r.alone || !doubtful && r.holder.MayServe(now) {
		return now, nil
	}
	if doubtful {
		return now, errorf(ErrStoreWentBack, "the metadata store is not at what this replica has applied, or later, but at an earlier "+
			"revision or of another history; it serves nothing until the newest state is back, or it is started again")
	}
	if errors.Is(r.holder.Refusal(), lease.ErrStoreWentBackwards) {
		return now, errorf(ErrStoreWentBack, "the metadata store is at an earlier revision than this replica has applied; "+
			"it serves nothing until it is started again")
	}
	return now, errorf(ErrLeaseLapsed, "this replica cannot be sure to know the newest metadata, so it serves nothing now; "+
		"try again, or ask another")
}

// wake makes the keeper of the lease and all who wait look again.
func (r *replica) wake() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
	r.mu.Lock()
	close(r.stir)
	r.stir = make(chan struct{})
	r.mu.Unlock()
}

// stirred is closed when there may be something new to look at.
func (r *replica) stirred() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stir
}

// replace makes a snapshot the current one. Under mu, so that acknowledged never sees the
// new snapshot without the old one among those that results may be on their way under.
func (r *replica) replace(old, next *Snapshot) {
	r.mu.Lock()
	r.service.snapshot.Store(next)
	r.older = append(r.older, old)
	r.mu.Unlock()
	r.wake()
}

// drained notes that no result is on its way any more under some snapshot that was replaced.
func (r *replica) drained() { r.wake() }

// acknowledged is the revision up to which everything is applied, and no result is on its
// way that was decided under an older one.
func (r *replica) acknowledged() Revision {
	r.mu.Lock()
	defer r.mu.Unlock()
	acknowledged := r.service.snapshot.Load().Revision()
	kept := r.older[:0]
	for _, old := range r.older {
		if old.handing.Load() > 0 {
			kept = append(kept, old)
			acknowledged = min(acknowledged, old.Revision())
		}
	}
	clear(r.older[len(kept):])
	r.older = kept
	return acknowledged
}

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

// report logs what goes wrong when it begins, and when it has ended.
func (r *replica) report(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	what := ""
	if err != nil {
		what = causeOf(err)
	}
	if what == r.failing {
		return
	}
	r.failing = what
	if err != nil {
		r.service.log.ErrorContext(ctx, "the lease or the metadata cannot be renewed", slog.String("error", what))
		return
	}
	r.service.log.InfoContext(ctx, "lease and metadata are renewed again",
		slog.Uint64("revision", uint64(r.service.snapshot.Load().Revision())))
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
		ID: renewal.ID.String(), Counter: 1, Applied: Revision(renewal.Applied), Duration: renewal.Duration,
		Replica: r.config.Name, Release: r.config.Release, StartTime: r.began,
	}
	var head Revision
	if renewal.Join {
		head, err = r.service.store.InsertLease(ctx, row)
	} else {
		head, err = r.service.store.RenewLease(ctx, row)
	}
	if errors.Is(err, ErrLeaseGone) {
		r.holder.Missing(renewal)
		return err
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
	all.Detail = fmt.Sprintf("%s on the store, which is at revision %d", counted(len(rows), "lease"), head)
	for _, row := range rows {
		if r.idle(row) > row.Duration+lease.Margin(row.Duration) {
			all.Severity = SeverityWarning
			all.Detail += fmt.Sprintf("; %s has not renewed its lease for %s", row.Replica, r.idle(row).Round(time.Second))
			all.Remedy = "changes wait for such a replica once, until its lease has expired"
		}
	}
	return []Finding{own, all}
}
