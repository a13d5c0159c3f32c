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
	outage   outage        // as far as the log was told of it
	troubled time.Duration // when the lease or the metadata could last not be renewed
	looking  chan error    // nil, or gets the outcome of the look at the store that is under way
	looked   error         // outcome of the last look that has ended

	learning learning

	mu    sync.Mutex
	older []*Snapshot     // replaced, and results may still be on their way under them
	stir  chan struct{}   // closed and replaced when waiters are to look again
	seen  map[string]sign // of life, by lease ID

	putOffs map[Revision]*spreading // waits for the others whose callers could not wait for the end
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
		putOffs: make(map[Revision]*spreading),
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
	doubts := r.doubts()
	if r.alone || !doubts && r.holder.MayServe(now) {
		return now, nil
	}
	if doubts {
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

// doubts reports whether the store that it shares with others was last seen to be none that
// comes from what it has applied: what it knows of revisions then means nothing.
func (r *replica) doubts() bool { return !r.alone && r.doubtful.Load() }

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
