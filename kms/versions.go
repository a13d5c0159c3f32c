package kms

import (
	"context"
	"log/slog"
	"strconv"
	"time"
)

// GetKeyVersion returns a key version with its usage, and what the host reports of its
// token object. A token that does not answer is no error: the report says so. Errors: ErrVersionNotFound,
// ErrStoreUnavailable.
func (s *Service) GetKeyVersion(ctx context.Context, p Principal, name VersionName) (*VersionInfo, error) {
	var found *VersionInfo
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionGetVersion, namespace: name.Key().Namespace(), key: name.Key(),
		resource: name.String(), invalid: required("name", name.IsZero()),
		work: func(ctx context.Context) (err error) {
			now := s.snapshot.Load()
			v := now.version(name)
			if v == nil {
				return versionNotFound(name)
			}
			found = s.versionInfo(now, v)
			found.Host = s.hostReport(ctx, v)
			return s.addUsage(ctx, found)
		},
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ListKeyVersions returns a page of the versions of a key with their usage, ordered by
// number. Errors: ErrKeyNotFound, ErrStoreUnavailable.
func (s *Service) ListKeyVersions(ctx context.Context, p Principal, parent KeyName, page Page) (*VersionList, error) {
	list := &VersionList{}
	token := "versions/" + keyIndex(parent)
	from, size, invalid := page.parse(token)
	first := 1
	if from != "" && invalid == nil {
		var err error
		if first, err = strconv.Atoi(from); err != nil || first < 1 {
			invalid = Invalid(Violation{"page_token", "is not a token of this list"})
		}
	}
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionListVersions, namespace: parent.Namespace(), key: parent, resource: parent.String(),
		invalid: firstError(required("parent", parent.IsZero()), invalid),
		work: func(ctx context.Context) error {
			now := s.snapshot.Load()
			key := now.key(parent)
			if key == nil {
				return keyNotFound(parent)
			}
			for n := first; n <= len(key.versions); n++ {
				if len(list.Versions) == size {
					list.NextToken = pageToken(token, strconv.Itoa(n))
					break
				}
				list.Versions = append(list.Versions, s.versionInfo(now, key.versions[n-1]))
			}
			return s.addUsage(ctx, list.Versions...)
		},
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// versionInfo is what callers are told of a version, but for its usage.
func (s *Service) versionInfo(now *Snapshot, v *versionEntry) *VersionInfo {
	info := &VersionInfo{Version: *v.Version, Algorithm: v.algorithm, Unavailable: v.live.whyUnavailable()}
	if key := now.key(v.Name.Key()); key != nil {
		info.Primary = key.Primary == v.Name.Number()
	}
	if v.State == StateDestroyScheduled {
		info.DestroyTime = s.destruction.destroyTime(now, v)
	}
	return info
}

// changedVersion is versionInfo after a change, with the usage if it can be had.
func (s *Service) changedVersion(ctx context.Context, name VersionName) (*VersionInfo, error) {
	now := s.snapshot.Load()
	v := now.version(name)
	if v == nil {
		return nil, versionNotFound(name)
	}
	info := s.versionInfo(now, v)
	if err := s.addUsage(ctx, info); err != nil {
		s.log.WarnContext(ctx, "the usage of a version could not be read",
			slog.String("key_version", name.String()), slog.Any("error", causeOf(err)))
	}
	return info, nil
}

// addUsage sets the usage of versions.
func (s *Service) addUsage(ctx context.Context, infos ...*VersionInfo) error {
	now := s.snapshot.Load()
	versions := make([]*versionEntry, 0, len(infos))
	for _, info := range infos {
		if v := now.versionByUID(info.UID); v != nil {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return nil
	}
	usage, err := s.usageOf(ctx, versions...)
	if err != nil {
		return err
	}
	for _, info := range infos {
		info.Usage = usage[info.UID]
	}
	return nil
}

// protects reports whether a version may protect something. Of one that was imported it is
// not known, and of one from before the store was put to an older state: its first use may
// be forgotten.
func (s *Snapshot) protects(v *versionEntry) bool {
	return !v.FirstUse.IsZero() || v.Imported || v.Epoch != s.epoch()
}

// destroyTime is when the object of a version that is DESTROY_SCHEDULED is destroyed. What
// was scheduled before the store was put to an older state waits another whole window
// from then on: that it was restored since may be what the store forgot.
func (l DestructionLimits) destroyTime(now *Snapshot, v *versionEntry) time.Time {
	if now.origin != nil && v.Revision <= now.origin.Revision {
		if later := now.origin.Time.Add(l.Window); later.After(v.DestroyTime) {
			return later
		}
	}
	return v.DestroyTime
}

// lockVersion takes the lock under which row and object of a version change, here and in
// all replicas, and catches up with the store.
func (s *Service) lockVersion(ctx context.Context, name VersionName) (unlock func(), err error) {
	unlockHere, err := s.versionLocks.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return s.lockEverywhere(ctx, unlockHere, "version/"+name.String())
}

// lockEverywhere takes the store's lock of the name, with the process's own taken
// already, and catches up with the store. On an error neither is held.
func (s *Service) lockEverywhere(ctx context.Context, unlockHere func(), name string) (unlock func(), err error) {
	unlockStore, err := s.lockStore(ctx, name)
	if err != nil {
		unlockHere()
		return nil, err
	}
	unlock = func() {
		unlockStore()
		unlockHere()
	}
	if err := s.refresh(ctx); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func versionNotFound(name VersionName) *Error {
	return errorf(ErrVersionNotFound, "%s does not exist", name)
}
