package kms

import (
	"slices"
	"time"
)

// lookAgain wakes the errands of set times that a change concerns: those whose next look
// would come too late, or that tell as the next time that of a row which has changed. They
// look at all keys and versions, which costs much more than a change of one; so they are
// not woken by every change.
func (s *Service) lookAgain(old, next *Snapshot, changes ...*Delta) {
	now := s.now()
	if s.rotator.concerned(old, next, changes, now) {
		s.rotator.wake()
	}
	if s.destruction.concerned(&s.destroyer, old, next, changes, now) {
		s.destroyer.wake()
	}
	if s.jobExpirer.concerned(changes, now) {
		s.jobExpirer.wake()
	}
}

// concerned reports whether an import job was made or changed, or the rest has ended.
func (e *jobExpirer) concerned(changes []*Delta, now time.Time) bool {
	_, resting := e.restsUntil(now)
	return !resting || slices.ContainsFunc(changes, func(d *Delta) bool { return d != nil && len(d.ImportJobs) > 0 })
}

// concerned reports whether a rotation moves such that the rotator must look again.
func (r *rotator) concerned(old, next *Snapshot, changes []*Delta, now time.Time) bool {
	until, resting := r.restsUntil(now)
	if !resting {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	concerns := func(name KeyName) bool {
		if _, asked := r.soon[name]; asked {
			return true
		}
		was, _ := r.periodicRotation(old.key(name))
		is, _ := r.periodicRotation(next.key(name))
		return moves(was, is, until, r.told.NextRotation)
	}
	for _, change := range changes {
		if change == nil {
			continue
		}
		for _, k := range change.Keys {
			if concerns(k.Name) {
				return true
			}
		}
		for _, v := range change.Versions {
			if concerns(v.Name.Key()) {
				return true
			}
		}
	}
	return false
}

// concerned reports whether a destruction moves such that the destroyer must look again.
func (l DestructionLimits) concerned(d *destroyer, old, next *Snapshot, changes []*Delta, now time.Time) bool {
	until, resting := d.restsUntil(now)
	if !resting {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, change := range changes {
		if change == nil {
			continue
		}
		if change.Origin != nil { // moves them all
			return true
		}
		for _, v := range change.Versions {
			was, is := l.destroyTimeOf(old, v), l.destroyTimeOf(next, v)
			if moves(was, is, until, d.told.NextDestruction) {
				return true
			}
		}
		for _, o := range change.Orphans {
			if moves(time.Time{}, o.DestroyTime, until, d.told.NextDestruction) {
				return true
			}
		}
		for _, uid := range change.RemovedOrphans {
			if o, ok := old.orphans.Get(string(uid[:])); ok && moves(o.DestroyTime, time.Time{}, until, d.told.NextDestruction) {
				return true
			}
		}
	}
	return false
}

// destroyTimeOf is when a version is to be destroyed by what the snapshot holds of it; zero:
// never.
func (l DestructionLimits) destroyTimeOf(now *Snapshot, v *Version) time.Time {
	entry := now.versionByUID(v.UID)
	if entry == nil || entry.State != StateDestroyScheduled {
		return time.Time{}
	}
	return l.destroyTime(now, entry)
}

// moves reports whether an errand that rests until a time, and tells of one as the next,
// must look again because something that was to be done at one time is to be at another.
// Zero is never.
func moves(was, is, until, next time.Time) bool {
	if was.Equal(is) {
		return false
	}
	sooner := !is.IsZero() && (is.Before(until) || next.IsZero() || is.Before(next))
	return sooner || !was.IsZero() && was.Equal(next)
}
