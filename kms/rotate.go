package kms

import (
	"context"
	"log/slog"
)

// RotateKey makes a new version of a key and makes it primary; the older ones keep
// their states, but for those that RestrictPrevious makes REWRAP_ONLY. A call repeated
// with the same request id returns the version that the first made. When it returns, all
// replicas know the new primary. Errors: ErrKeyNotFound, ErrUnsupported,
// ErrRequestIDReused, ErrStillSpreading.
func (s *Service) RotateKey(ctx context.Context, p Principal, r *RotateKeyRequest) (*RotateKeyResult, error) {
	var result *RotateKeyResult
	call := &controlCall{
		principal: p, action: ActionRotateKey, namespace: r.Name.Namespace(), key: r.Name, resource: r.Name.String(),
		reason: r.Reason,
		invalid: firstError(required("name", r.Name.IsZero()), checkRequestID(r.RequestID),
			checkReason(r.Reason, r.RestrictPrevious)),
	}
	call.work = func(ctx context.Context) error {
		unlock, err := s.lockKey(ctx, r.Name)
		if err != nil {
			return err
		}
		rotated, revision, err := s.rotate(ctx, p, r)
		unlock()
		if err != nil {
			return err
		}
		s.switchOffRestricted(ctx, rotated)
		if rotated.Spread, err = s.spread(ctx, revision); err == nil {
			result = rotated
		}
		call.spread = &rotated.Spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return result, nil
}

// rotate does the work of a rotation, and returns the revision that has to spread. The
// caller holds the key's lock.
func (s *Service) rotate(ctx context.Context, p Principal, r *RotateKeyRequest) (*RotateKeyResult, Revision, error) {
	now := s.snapshot.Load()
	key := now.key(r.Name)
	if key == nil || key.Primary == 0 {
		return nil, 0, keyNotFound(r.Name)
	}
	digest := r.digest()
	if v, err := key.repeated(r.RequestID, digest); err != nil {
		return nil, 0, err
	} else if v != nil {
		return s.rotated(now, v, r), max(key.Revision, v.Revision), nil
	}
	if last := key.versions[len(key.versions)-1]; last.State == StateCreating {
		// What an earlier attempt left and could not clear away.
		if err := s.undoCreation(ctx, last); err != nil {
			return nil, 0, err
		}
	}
	number := uint32(len(s.snapshot.Load().key(r.Name).versions)) + 1
	revision, err := s.makeVersion(ctx, &creation{
		principal: p, key: key.Key, number: number, requestID: r.RequestID, digest: digest,
		restrict: r.RestrictPrevious, reason: r.Reason,
	})
	if err != nil {
		return nil, 0, err
	}
	now = s.snapshot.Load()
	return s.rotated(now, now.version(r.Name.Version(number)), r), revision, nil
}

// rotated is the result of the rotation that made v.
func (s *Service) rotated(now *Snapshot, v *versionEntry, r *RotateKeyRequest) *RotateKeyResult {
	key := now.key(v.Name.Key())
	result := &RotateKeyResult{Version: s.versionInfo(now, v), Key: key.info()}
	if !r.RestrictPrevious {
		return result
	}
	for _, older := range key.versions[:v.Name.Number()-1] {
		// What was restricted by the change that made v has the time and reason of that change.
		if older.State == StateRewrapOnly && older.StateTime.Equal(v.StateTime) && older.StateReason == r.Reason {
			result.Restricted = append(result.Restricted, s.versionInfo(now, older))
		}
	}
	return result
}

// switchOffRestricted switches off the objects of the versions that a rotation has
// restricted, where nothing is left that could be done with them.
func (s *Service) switchOffRestricted(ctx context.Context, rotated *RotateKeyResult) {
	for _, v := range rotated.Restricted {
		if v.State.usable(rotated.Key.Purpose) {
			return
		}
		unlock, err := s.lockVersion(ctx, v.Name)
		if err != nil {
			s.log.WarnContext(ctx, "the token object of a restricted version remains switched on until the next start; "+
				"the service refuses it all the same",
				slog.String("key_version", v.Name.String()), slog.Any("error", causeOf(err)))
			continue
		}
		if now := s.snapshot.Load().version(v.Name); now != nil && !now.usable() {
			s.switchOff(ctx, now)
		}
		unlock()
	}
}

// restrictOlder makes the ENABLED versions of a key REWRAP_ONLY. Objects of ENCRYPT_DECRYPT
// versions stay on; of others there is nothing to rewrap: see switchOffRestricted.
func restrictOlder(key *keyEntry, active *Version, reason string) []*Version {
	var restricted []*Version
	for _, older := range key.versions {
		if older.State != StateEnabled {
			continue
		}
		moved := *older.Version
		moved.State, moved.StateTime = StateRewrapOnly, active.StateTime
		moved.StatePrincipal, moved.StateReason = active.StatePrincipal, reason
		restricted = append(restricted, &moved)
	}
	return restricted
}

// digest identifies what a request with an id asked for.
func (r *RotateKeyRequest) digest() []byte {
	fields := []string{"RotateKey", r.Name.String()}
	if r.RestrictPrevious {
		fields = append(fields, "restrict_previous", r.Reason)
	}
	return digestFields(fields...)
}

// lockKey takes the lock under which versions of a key are made, here and in all
// replicas, and catches up with the store.
func (s *Service) lockKey(ctx context.Context, name KeyName) (unlock func(), err error) {
	unlockHere, err := s.keyLocks.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.lockEverywhere(ctx, unlockHere, "key/"+name.String())
}
