package kms

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/keyholt/keyholt/hsm"
)

// RestoreStore puts the contents of a backup into a store that holds no keys yet, and
// compares its versions with the token. From then on the store is known to be one that
// was restored: STRICT versions make no new ciphertext until their keys are rotated,
// every version counts as used, what was scheduled for destruction waits another window,
// and no orphan is destroyed. Versions whose creation was under way are left out, and
// orphans. Errors: ErrStoreNotEmpty, ErrInvalidRequest (it is no backup), ErrTampered,
// ErrTokenRefused (the token does not hold its seal key), ErrRolledBack (the token
// remembers a newer state of the store), ErrStillSpreading.
func (s *Service) RestoreStore(ctx context.Context, p Principal, r *RestoreStoreRequest) (*StoreReport, error) {
	var report *StoreReport
	invalid := checkReason(r.Reason, true)
	if invalid == nil && r.Backup == nil {
		invalid = required("backup", true)
	}
	call := &controlCall{principal: p, action: ActionRestoreStore, resource: "store", reason: r.Reason, invalid: invalid}
	call.work = func(ctx context.Context) error {
		if s.snapshot.Load().keys.Len() > 0 {
			return storeNotEmpty() // before a long backup is read
		}
		backup, err := s.store.ReadBackup(ctx, r.Backup)
		if err != nil {
			return err
		}
		if err := s.checkBackup(ctx, backup, r.AcceptRollback); err != nil {
			return err
		}
		restored, revision, err := s.restore(ctx, p, r.Reason, backup)
		if err != nil {
			return err
		}
		if restored.Spread, err = s.spread(ctx, revision); err == nil {
			report = restored
		}
		call.spread = &restored.Spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return report, nil
}

func storeNotEmpty() *Error {
	return errorf(ErrStoreNotEmpty, "the store holds keys already: a backup is restored into a new store")
}

// checkBackup refuses a backup that is not the newest state of its store, as far as the
// token remembers it.
func (s *Service) checkBackup(ctx context.Context, backup *Backup, acceptRollback bool) error {
	anchor := NewTokenAnchor(s.token, backup.StoreID)
	noted, ok, err := anchor.Read(ctx)
	if err != nil || !ok {
		return err
	}
	if noted.Revision <= backup.Head.Revision && !backup.Head.contradicts(noted) {
		return nil
	}
	why := fmt.Sprintf("the backup is of revision %d, but %s remembers revision %d of its store",
		backup.Head.Revision, anchor.Name(), noted.Revision)
	if !acceptRollback {
		return errorf(ErrRolledBack, "%s: what was revoked since may be enabled in it; find a newer backup, or accept the roll-back", why)
	}
	s.log.WarnContext(ctx, "an old backup is accepted", slog.String("why", why))
	return nil
}

// restore makes the rows of a backup those of the store, in one change.
func (s *Service) restore(ctx context.Context, p Principal, reason string, backup *Backup) (*StoreReport, Revision, error) {
	unlock, err := s.lockObjects(ctx) // no orphan is destroyed meanwhile that becomes a version
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	var change *Change
	revision, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		if now.keys.Len() > 0 {
			return nil, storeNotEmpty()
		}
		change = s.restoration(now, p, reason, backup)
		return change, nil
	})
	if err != nil {
		return nil, 0, err
	}
	report := &StoreReport{StoreID: s.store.ID(), Revision: revision, SealKey: s.store.SealKey(), Rows: map[string]int{
		"namespaces": len(backup.Namespaces), "keys": len(change.Keys), "versions": len(change.Versions), "import_jobs": len(change.ImportJobs),
		"origin": 1,
	}}
	ctx, cancel := detached(ctx)
	defer cancel()
	report.Problems = s.compareRestored(ctx)
	return report, revision, nil
}

// restoration computes the change that a restored backup is.
func (s *Service) restoration(now *Snapshot, p Principal, reason string, backup *Backup) *Change {
	change := &Change{Origin: now.nextOrigin(s, p.Name, reason)}
	if backup.Origin != nil {
		change.Origin.Epoch = max(change.Origin.Epoch, backup.Origin.Epoch+1)
	}
	for _, n := range backup.Namespaces {
		if now.namespace(n.Name) == nil {
			row := *n
			row.Revision = 0
			change.Namespaces = append(change.Namespaces, &row)
		}
	}
	whole := make(map[KeyName]bool)
	for _, v := range backup.Versions {
		if v.State != StateCreating {
			row := *v
			row.Revision = 0
			change.Versions = append(change.Versions, &row)
			whole[v.Name.Key()] = true
		}
	}
	for _, k := range backup.Keys {
		if whole[k.Name] {
			row := k.Clone()
			row.Revision = 0
			change.Keys = append(change.Keys, row)
		}
	}
	for _, j := range backup.ImportJobs {
		if j.State != ImportJobCreating && now.importJob(j.Name) == nil {
			row := *j
			row.Revision = 0
			change.ImportJobs = append(change.ImportJobs, &row)
		}
	}
	return change
}

// compareRestored holds the restored versions against the token. Objects of versions that
// may not be used are switched off; of others it tells what does not fit.
func (s *Service) compareRestored(ctx context.Context) []string {
	objects, err := s.token.Keys(ctx)
	if err != nil {
		return []string{"the token could not be compared: " + tokenError(err, "list its keys").Error()}
	}
	byUID := make(map[hsm.UID]*hsm.Object, len(objects))
	for i := range objects {
		byUID[objects[i].UID] = &objects[i]
	}
	problems := make(map[string]string)
	s.snapshot.Load().versions.Scan(func(_ string, v *versionEntry) bool {
		why, err := s.lookAt(ctx, v, byUID[v.UID])
		if err != nil {
			why = "its token object could not be looked at: " + err.Error()
		}
		switch why {
		case fitting:
		case stillOn:
			if s.switchOff(ctx, v) == SwitchFailed {
				problems[v.Name.String()] = why + ", and cannot be switched off"
			}
		default:
			v.live.fail(why)
			problems[v.Name.String()] = why
			s.log.ErrorContext(ctx, "a restored key version is unavailable",
				slog.String("key_version", v.Name.String()), slog.String("reason", why))
		}
		return true
	})
	list := make([]string, 0, len(problems))
	for _, name := range slices.Sorted(maps.Keys(problems)) {
		list = append(list, name+": "+problems[name])
	}
	return list
}
