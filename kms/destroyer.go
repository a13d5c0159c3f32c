package kms

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// destroyer destroys the token objects of versions, and orphans, whose time has come. All
// replicas watch; under the locks the first does it. Of a version it first changes the
// row so that the version is not restored any more, then destroys the object, then
// enters that it is gone: a crash or a lost lock in between leaves a version whose
// destruction has begun, and that any replica ends.
type destroyer struct {
	errand
	retries retries[doomed] // of the errand only

	mu   sync.Mutex
	told Schedule // as far as it is of destructions
}

// doomed is a version, or an orphan if the name is zero, to be destroyed.
type doomed struct {
	name VersionName
	uid  hsm.UID
}

// logged is what the log calls it.
func (v doomed) logged() slog.Attr {
	if v.name.IsZero() {
		return slog.Bool("orphan", true)
	}
	return slog.String("key_version", v.name.String())
}

func (d *destroyer) start(s *Service) { d.startTimed(s.now, s.destroyDue) }

// destroyDue destroys what is due, and returns how long to rest.
func (s *Service) destroyDue(ctx context.Context) time.Duration {
	d := &s.destroyer
	due, rest := s.dueForDestruction(s.snapshot.Load(), s.now())
	d.retries.keep(func(v doomed) bool { return due[v] })
	for v := range due {
		if ctx.Err() != nil {
			return rest
		}
		if wait := d.retries.wait(v, s.now()); wait > 0 {
			rest = min(rest, wait)
			continue
		}
		done, err := s.destroy(ctx, v)
		d.retries.note(v, s.now(), err)
		d.count(done, err)
		if err != nil && ctx.Err() == nil {
			rest = min(rest, d.retries.wait(v, s.now()))
			s.log.ErrorContext(ctx, "a scheduled destruction failed; it will be tried again",
				v.logged(), slog.String("uid", v.uid.String()), slog.Any("error", causeOf(err)))
		}
	}
	return rest
}

func (d *destroyer) count(done bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if done {
		d.told.Destructions++
	}
	if err != nil {
		d.told.DestructionsFailed++
	}
}

// dueForDestruction is the set of what is to be destroyed now, and how long until more is.
func (s *Service) dueForDestruction(now *Snapshot, at time.Time) (due map[doomed]bool, rest time.Duration) {
	due, rest = make(map[doomed]bool), errandRest
	var next time.Time
	consider := func(v doomed, when time.Time) {
		if next.IsZero() || when.Before(next) {
			next = when
		}
		if wait := when.Sub(at); wait > 0 {
			rest = min(rest, wait)
		} else {
			due[v] = true
		}
	}
	now.versions.Scan(func(_ string, v *versionEntry) bool {
		if v.State == StateDestroyScheduled {
			consider(doomed{v.Name, v.UID}, s.destruction.destroyTime(now, v))
		}
		return true
	})
	if now.origin == nil { // else the rows that named the objects may be what the store forgot
		now.orphans.Scan(func(_ string, o *Orphan) bool {
			consider(doomed{uid: o.UID}, o.DestroyTime)
			return true
		})
	}
	s.destroyer.mu.Lock()
	defer s.destroyer.mu.Unlock()
	s.destroyer.told.NextDestruction = next
	return due, rest
}

// destroy destroys one object and records it. done is false if another replica was
// first, or its destruction was taken back.
func (s *Service) destroy(ctx context.Context, v doomed) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	event := &Event{Principal: systemPrincipal(), Reason: "the window of its scheduled destruction has passed"}
	if v.name.IsZero() {
		event.Action, event.Resource = ActionDestroyOrphan, "orphans/"+v.uid.String()
		done, err = s.destroyOrphan(ctx, v.uid)
	} else {
		event.Action, event.Resource, event.Namespace = ActionDestroyVersion, v.name.String(), v.name.Key().Namespace()
		done, err = s.destroyVersion(ctx, v.name)
	}
	if !done && err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return false, err
	}
	if done {
		s.log.InfoContext(ctx, "destroyed a key object whose time had come", v.logged(), slog.String("uid", v.uid.String()))
	}
	event.Time, event.Err = s.now(), err
	if auditErr := s.record(ctx, event); auditErr != nil && done {
		s.log.ErrorContext(ctx, "a destruction was made and could not be recorded", slog.String("uid", v.uid.String()))
	}
	return done, err
}

// destroyVersion destroys the object of a version and enters it in its row.
func (s *Service) destroyVersion(ctx context.Context, name VersionName) (done bool, err error) {
	unlock, err := s.lockVersion(ctx, name)
	if err != nil {
		return false, err
	}
	defer unlock()
	entry := s.snapshot.Load().version(name)
	if entry == nil || entry.State != StateDestroyScheduled {
		return false, nil
	}
	_, err = s.token.Key(ctx, entry.UID) // before anything is begun
	if errors.Is(err, hsm.ErrKeyNotFound) {
		_, err = s.token.Key(ctx, s.store.SealKey()) // it is gone only if this token is the one that it was in
	}
	if err != nil {
		return false, tokenError(err, "look up the key object")
	}
	if err := s.checkDue(ctx, s.destruction.destroyTime(s.snapshot.Load(), entry)); err != nil {
		return false, err
	}
	begun, err := s.beginDestruction(ctx, name)
	if err != nil || !begun {
		return false, err
	}
	ctx, cancel := detached(ctx)
	defer cancel()
	if err := s.destroyObject(ctx, entry.UID); err != nil {
		return false, err
	}
	_, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
		entry := now.version(name)
		if entry == nil || !entry.State.leadsTo(ActionDestroyVersion, StateDestroyed) {
			return nil, errorf(ErrConflict, "%s was changed by somebody else while it was destroyed", name)
		}
		gone := *entry.Version
		gone.State, gone.StateTime = StateDestroyed, s.now()
		gone.DestroyTime, gone.RestoreTo = gone.StateTime, 0
		return &Change{Versions: []*Version{&gone}}, nil
	})
	return err == nil, err
}

// beginDestruction makes a version one that is not restored any more, if its time has
// come by what the store holds now.
func (s *Service) beginDestruction(ctx context.Context, name VersionName) (begun bool, err error) {
	_, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
		begun = false
		entry := now.version(name)
		if entry == nil || entry.State != StateDestroyScheduled || s.destruction.destroyTime(now, entry).After(s.now()) {
			return nil, nil
		}
		begun = true
		if entry.destroying() {
			return nil, nil
		}
		begin := *entry.Version
		begin.RestoreTo = 0
		return &Change{Versions: []*Version{&begin}}, nil
	})
	return begun && err == nil, err
}
