package kms

import (
	"context"
	"time"
)

// SetPrimaryRequest asks that a version of a key become its primary one.
type SetPrimaryRequest struct {
	Name   VersionName
	Reason string // for the record; may be empty
}

// SetPrimaryResult is the version that is primary now, and its key.
type SetPrimaryResult struct {
	Version *VersionInfo
	Key     *KeyInfo
	Spread  Spread
}

// SetPrimaryKeyVersion makes a version that exists the primary one of its key: one that was
// imported beside it, or an older one after a rotation that came too early. The states of
// the versions stay as they are. A version that makes nothing new cannot become primary:
// one that is not ENABLED, whose token object is missing, or that is an imported version of
// a STRICT key; nor can one that the rotation period has outlived, because the service would
// rotate the key at once. It is idempotent. When it returns, all replicas know the new
// primary. Errors: ErrVersionNotFound, those of states, ErrVersionUnavailable,
// ErrEncryptionLimit, ErrRotationDue, ErrStillSpreading.
func (s *Service) SetPrimaryKeyVersion(ctx context.Context, p Principal, r *SetPrimaryRequest) (*SetPrimaryResult, error) {
	var result *SetPrimaryResult
	key := r.Name.Key()
	call := &controlCall{
		principal: p, action: ActionSetPrimary, namespace: key.Namespace(), key: key, resource: r.Name.String(), reason: r.Reason,
		invalid: firstError(required("name", r.Name.IsZero()), checkReason(r.Reason, false)),
	}
	call.work = func(ctx context.Context) error {
		unlock, err := s.lockKey(ctx, key)
		if err != nil {
			return err
		}
		revision, err := s.setPrimary(ctx, r.Name)
		unlock()
		if err != nil {
			return err
		}
		spread, err := s.spread(ctx, revision)
		call.spread = &spread
		if err != nil {
			return err
		}
		now := s.snapshot.Load()
		result = &SetPrimaryResult{Version: s.versionInfo(now, now.version(r.Name)), Key: now.key(key).info(), Spread: spread}
		return nil
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return result, nil
}

// setPrimary changes the row of the key, and returns the revision that has to spread. The
// caller holds the key's lock.
func (s *Service) setPrimary(ctx context.Context, name VersionName) (Revision, error) {
	return s.commit(ctx, func(now *Snapshot) (*Change, error) {
		key, version := now.key(name.Key()), now.version(name)
		if version == nil {
			return nil, versionNotFound(name)
		}
		if key.Primary == name.Number() {
			return nil, nil
		}
		if why := now.whyNot(version, useSeal); why != nil {
			return nil, why
		}
		if due := version.CreateTime.Add(key.RotationPeriod); key.RotationPeriod != 0 && !due.After(s.now()) {
			return nil, outlived(version, key.RotationPeriod)
		}
		promoted := key.Clone()
		promoted.Primary = name.Number()
		return &Change{Keys: []*Key{promoted}}, nil
	})
}

func outlived(v *versionEntry, period time.Duration) *Error {
	return errorf(ErrRotationDue, "%s was made at %s, longer ago than the rotation period of %v: its key would be rotated at once",
		v.Name, timeText(v.CreateTime), period).with("key_version", v.Name.String())
}
