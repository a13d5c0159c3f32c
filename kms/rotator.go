package kms

import (
	"context"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// rotator rotates keys by itself: when their rotation period has passed since the
// primary version was made, and when a STRICT primary comes near its limit. All replicas
// watch, and under the key's lock the first that finds a rotation due makes it. A key
// that is overdue by several periods is rotated once.
type rotator struct {
	errand
	seed    maphash.Seed
	retries retries[KeyName] // of the errand only

	mu   sync.Mutex
	soon map[KeyName]uint32 // keys whose primary of that number comes near its limit
	told Schedule           // as far as it is of rotations
}

const (
	// errandRest is the longest that errands of set times rest: clocks may be set meanwhile.
	errandRest = time.Minute
	// A scheduled rotation is made up to a twentieth of its period late, and at most
	// rotationJitter, so that not all replicas and not all keys want it at once.
	rotationJitter = time.Minute
	jitterPart     = 20
)

// Schedule is what the service does by itself at set times. The counts are of this
// process, since it started.
type Schedule struct {
	Rotations       uint64
	RotationsFailed uint64
	NextRotation    time.Time // zero: no rotation is scheduled

	Destructions       uint64 // of versions and orphans
	DestructionsFailed uint64
	NextDestruction    time.Time // zero: no destruction is scheduled
}

// Schedule tells what the service has done by itself, and when it will next.
func (s *Service) Schedule() Schedule {
	s.rotator.mu.Lock()
	told := s.rotator.told
	s.rotator.mu.Unlock()
	s.destroyer.mu.Lock()
	defer s.destroyer.mu.Unlock()
	d := &s.destroyer.told
	told.Destructions, told.DestructionsFailed, told.NextDestruction = d.Destructions, d.DestructionsFailed, d.NextDestruction
	return told
}

func (r *rotator) start(s *Service) {
	r.seed = maphash.MakeSeed()
	r.startTimed(s.now, s.rotateDue)
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
	r := &s.rotator
	due, rest := r.dueKeys(s.snapshot.Load(), s.now())
	r.retries.keep(func(name KeyName) bool { return slices.Contains(due, name) })
	for _, name := range due {
		if ctx.Err() != nil {
			return rest
		}
		if wait := r.retries.wait(name, s.now()); wait > 0 {
			rest = min(rest, wait)
			continue
		}
		done, err := s.rotateBySelf(ctx, name)
		r.retries.note(name, s.now(), err)
		r.count(done, err)
		switch {
		case err != nil && ctx.Err() == nil:
			rest = min(rest, r.retries.wait(name, s.now()))
			s.log.ErrorContext(ctx, "scheduled rotation failed; it will be tried again",
				slog.String("key", name.String()), slog.Any("error", causeOf(err)))
		case done:
			rest = 0
		}
	}
	return rest
}

func (r *rotator) count(done bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if done {
		r.told.Rotations++
	}
	if err != nil {
		r.told.RotationsFailed++
	}
}

// dueKeys lists the keys to rotate now, and says how long until the next one is due.
func (r *rotator) dueKeys(now *Snapshot, at time.Time) (due []KeyName, rest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rest, r.told.NextRotation = errandRest, time.Time{}
	now.keys.Scan(func(_ string, key *keyEntry) bool {
		when, scheduled := r.rotationTime(key, at)
		if !scheduled {
			return true
		}
		if r.told.NextRotation.IsZero() || when.Before(r.told.NextRotation) {
			r.told.NextRotation = when
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

// rotationTime is when a key is to be rotated; false: never by itself. The caller holds mu.
func (r *rotator) rotationTime(key *keyEntry, at time.Time) (time.Time, bool) {
	n, asked := r.soon[key.Name]
	if asked && n != key.Primary {
		delete(r.soon, key.Name)
		asked = false
	}
	if asked && key.rotatable() {
		return at, true
	}
	return r.periodicRotation(key)
}

// periodicRotation is when the period of a key has passed; false: never, or there is no
// such key.
func (r *rotator) periodicRotation(key *keyEntry) (time.Time, bool) {
	if key == nil || !key.rotatable() {
		return time.Time{}, false
	}
	when, scheduled := key.rotationDue()
	if !scheduled {
		return time.Time{}, false
	}
	return when.Add(r.jitter(key, when)), true
}

// rotatable reports whether the service may rotate the key by itself. Only an enabled
// primary is replaced: who disabled it wants the key to rest.
func (k *keyEntry) rotatable() bool {
	primary := k.primary()
	return primary != nil && primary.State.allows(useSeal)
}

// jitter is how much later than it is due this process makes a rotation: anything up to a
// bound, the same each time that it is asked.
func (r *rotator) jitter(key *keyEntry, due time.Time) time.Duration {
	type rotation struct {
		name KeyName
		due  int64
	}
	most := min(key.RotationPeriod/jitterPart, rotationJitter)
	return time.Duration(maphash.Comparable(r.seed, rotation{key.Name, due.UnixNano()}) % uint64(most+1))
}

// rotateBySelf is RotateKey by the service itself: no authorisation, the same record. It
// does nothing if another replica was first.
func (s *Service) rotateBySelf(ctx context.Context, name KeyName) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	unlock, err := s.lockKey(ctx, name)
	if err != nil {
		return false, err
	}
	if due, _ := s.rotator.dueKeys(s.snapshot.Load(), s.now()); !slices.Contains(due, name) {
		unlock()
		return false, nil
	}
	result, revision, err := s.rotate(ctx, systemPrincipal(), &RotateKeyRequest{Name: name})
	unlock()
	event := &Event{
		Principal: systemPrincipal(), Action: ActionRotateKey, Namespace: name.Namespace(),
		Resource: name.String(), Reason: "the rotation period has passed, or the version comes near its limit",
	}
	if err == nil {
		result.Spread, event.Err = s.spread(ctx, revision)
		event.Spread = &result.Spread
		s.log.InfoContext(ctx, "rotated a key that was due", slog.String("key", name.String()),
			slog.String("key_version", result.Version.Name.String()), slog.Bool("known_everywhere", event.Err == nil))
	} else {
		event.Err = err
	}
	event.Time = s.now()
	if auditErr := s.record(ctx, event); auditErr != nil && err == nil {
		s.log.ErrorContext(ctx, "a scheduled rotation was made and could not be recorded", slog.String("key", name.String()))
	}
	return err == nil, err
}
