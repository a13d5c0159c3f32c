package kms

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// rotator rotates keys by itself: when their rotation period has passed since the
// primary version was made, and when a STRICT primary comes near its limit.
type rotator struct {
	nudge  chan struct{} // something may be due sooner than was thought
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	soon map[KeyName]uint32 // keys whose primary of that number comes near its limit
}

const (
	// rotatorRest is the longest the rotator sleeps: clocks may be set meanwhile.
	rotatorRest = time.Minute
	// rotatorRetry is how long it rests after a rotation failed.
	rotatorRetry = 5 * time.Second
)

func (r *rotator) start(s *Service) {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.nudge = make(chan struct{}, 1)
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		r.run(ctx, s)
	}()
}

func (r *rotator) stop() {
	r.cancel()
	<-r.done
}

// wake makes the rotator look again. It does nothing before start.
func (r *rotator) wake() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
}

func (r *rotator) run(ctx context.Context, s *Service) {
	for {
		rest := s.rotateDue(ctx)
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

// rotateSoon asks for a rotation of the key if version n still is its primary.
func (s *Service) rotateSoon(name KeyName, n uint32) {
	s.rotator.mu.Lock()
	if s.rotator.soon == nil {
		s.rotator.soon = make(map[KeyName]uint32)
	}
	s.rotator.soon[name] = n
	s.rotator.mu.Unlock()
	s.rotator.wake()
}

// rotateDue rotates what is due, and returns how long to rest.
func (s *Service) rotateDue(ctx context.Context) time.Duration {
	due, rest := s.rotator.dueKeys(s.snapshot.Load(), s.now())
	for _, name := range due {
		if err := s.rotateBySelf(ctx, name); err != nil {
			s.log.ErrorContext(ctx, "scheduled rotation failed; it will be tried again",
				slog.String("key", name.String()), slog.Any("error", causeOf(err)))
			rest = min(rest, rotatorRetry)
			continue
		}
		s.log.InfoContext(ctx, "rotated a key that was due", slog.String("key", name.String()))
		rest = 0
	}
	return rest
}

// dueKeys lists the keys to rotate now, and says how long until the next one is due.
func (r *rotator) dueKeys(now *Snapshot, at time.Time) (due []KeyName, rest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest = rotatorRest
	now.keys.Scan(func(_ string, key *keyEntry) bool {
		n, asked := r.soon[key.Name]
		if asked && n != key.Primary {
			delete(r.soon, key.Name)
			asked = false
		}
		// Only an enabled primary is replaced: who disabled it wants the key to rest.
		if primary := key.primary(); primary == nil || !primary.State.allows(useSeal) {
			return true
		}
		if asked {
			due = append(due, key.Name)
			return true
		}
		when, scheduled := key.rotationDue()
		if !scheduled {
			return true
		}
		if wait := when.Sub(at); wait > 0 {
			rest = min(rest, wait)
		} else {
			due = append(due, key.Name)
		}
		return true
	})
	return due, rest
}

// rotateBySelf is RotateKey by the service itself: no authorisation, the same record.
func (s *Service) rotateBySelf(ctx context.Context, name KeyName) error {
	unlock, err := s.keyLocks.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if due, _ := s.rotator.dueKeys(s.snapshot.Load(), s.now()); !contains(due, name) {
		return nil
	}
	_, err = s.rotate(ctx, systemPrincipal(), name, "")
	event := &Event{
		Time: s.now(), Principal: systemPrincipal(), Action: ActionRotateKey, Namespace: name.Namespace(),
		Resource: name.String(), Reason: "the rotation period has passed, or the version comes near its limit", Err: err,
	}
	if auditErr := s.record(ctx, event); auditErr != nil {
		return auditErr
	}
	return err
}

func contains(names []KeyName, name KeyName) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}
