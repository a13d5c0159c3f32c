package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// An orphan is a token object with this store's label that no key version or import
// job names, or whose version is DESTROYED, as after the token was restored from its backup. It may be what a
// crash left; or what the row was lost of, in a store that was restored or rolled back.
// So nothing but an operator's request destroys one, after a window, and none is
// destroyed in a store that was ever put to an older state.
//
// Seal keys have labels of another kind and are no orphans, the former ones included:
// they are needed as long as there are backups that they have sealed.

// ListOrphans lists the orphans in the token, by UID.
func (s *Service) ListOrphans(ctx context.Context, p Principal) ([]*OrphanInfo, error) {
	var found []*OrphanInfo
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionListOrphans, resource: "orphans",
		work: func(ctx context.Context) (err error) {
			found, err = s.findOrphans(ctx)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ScheduleOrphanDestruction has orphans destroyed when the window has passed; one that is
// scheduled already keeps its time. Errors: ErrRollbackAccepted, ErrInvalidRequest (a UID
// is of no orphan).
func (s *Service) ScheduleOrphanDestruction(ctx context.Context, p Principal, r *OrphanDestructionRequest) ([]*OrphanInfo, error) {
	var scheduled []*OrphanInfo
	call := &controlCall{
		principal: p, action: ActionScheduleOrphans, resource: "orphans", reason: r.Reason,
		invalid: firstError(checkReason(r.Reason, true), s.checkWindow(r.Window), checkOrphanCount(len(r.UIDs))),
	}
	call.work = func(ctx context.Context) error {
		orphans, err := s.findOrphans(ctx)
		if err != nil {
			return err
		}
		chosen, err := chooseOrphans(orphans, r.UIDs)
		if err != nil {
			return err
		}
		call.resource = orphanNames(chosen)
		if err := s.refuseOtherCopy(ctx); err != nil {
			return err
		}
		begin, err := s.windowBegin(ctx)
		if err != nil {
			return err
		}
		revision, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
			return s.scheduleOrphans(now, p, chosen, begin.Add(s.windowOf(r.Window)))
		})
		if err != nil {
			return err
		}
		spread, err := s.spread(ctx, revision)
		if err == nil {
			scheduled = chosen
		}
		call.spread = &spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return scheduled, nil
}

func checkOrphanCount(n int) error {
	if n > MaxItems {
		return tooMuch("uids", "%d are more than %d", n, MaxItems)
	}
	return nil
}

// chooseOrphans returns the orphans with the given UIDs; all if there are none.
func chooseOrphans(orphans []*OrphanInfo, uids []hsm.UID) ([]*OrphanInfo, error) {
	if len(uids) == 0 {
		return orphans, nil
	}
	var chosen []*OrphanInfo
	for i, uid := range uids {
		at := slices.IndexFunc(orphans, func(o *OrphanInfo) bool { return o.UID == uid })
		if at < 0 {
			return nil, Invalid(Violation{fmt.Sprintf("uids[%d]", i), uid.String() + " is no orphan of this store"})
		}
		if !slices.Contains(chosen, orphans[at]) {
			chosen = append(chosen, orphans[at])
		}
	}
	return chosen, nil
}

// orphanNames is the resource of a record about orphans; of very many it names the first.
func orphanNames(orphans []*OrphanInfo) string {
	const most = 100
	var names []string
	for i, o := range orphans {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(orphans)-most))
			break
		}
		names = append(names, o.UID.String())
	}
	return "orphans/" + strings.Join(names, ",")
}

// scheduleOrphans computes the rows of orphans that are to be destroyed, and sets their
// times.
func (s *Service) scheduleOrphans(now *Snapshot, p Principal, chosen []*OrphanInfo, when time.Time) (*Change, error) {
	if now.origin != nil {
		return nil, errorf(ErrRollbackAccepted, "the store was restored or rolled back at %s (%s): what no version names may be "+
			"what it has forgotten, so orphans are not destroyed", timeText(now.origin.Time), now.origin.Reason)
	}
	change := &Change{}
	for _, o := range chosen {
		if !now.isOrphan(o.UID) {
			return nil, errorf(ErrConflict, "%s is no orphan any more", o.UID)
		}
		if row, ok := now.orphans.Get(string(o.UID[:])); ok {
			o.DestroyTime = row.DestroyTime
			continue
		}
		o.DestroyTime = when
		change.Orphans = append(change.Orphans, &Orphan{UID: o.UID, Label: o.Label, DestroyTime: when, Principal: p.Name})
	}
	if len(change.Orphans) == 0 {
		return nil, nil
	}
	return change, nil
}

// findOrphans lists the orphans in the token, by UID. It reads the token first and then
// the store: the row of an object that is being made is committed before the object.
func (s *Service) findOrphans(ctx context.Context) ([]*OrphanInfo, error) {
	objects, err := s.token.Keys(ctx)
	if err != nil {
		return nil, tokenError(err, "list its keys")
	}
	return s.orphansAmong(ctx, objects)
}

// orphansAmong is findOrphans among objects that were listed before.
func (s *Service) orphansAmong(ctx context.Context, objects []hsm.Object) ([]*OrphanInfo, error) {
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	now := s.snapshot.Load()
	var orphans []*OrphanInfo
	for i := range objects {
		o := &objects[i]
		if !s.isOurs(o) || !now.isOrphan(o.UID) {
			continue
		}
		// A creation may have been undone between the two looks.
		if _, err := s.token.Key(ctx, o.UID); errors.Is(err, hsm.ErrKeyNotFound) {
			continue
		} else if err != nil {
			return nil, tokenError(err, "look up a key object")
		}
		info := &OrphanInfo{UID: o.UID, Label: o.Label, Spec: o.Spec}
		if row, ok := now.orphans.Get(string(o.UID[:])); ok && now.origin == nil {
			info.DestroyTime = row.DestroyTime
		}
		orphans = append(orphans, info)
	}
	slices.SortFunc(orphans, func(a, b *OrphanInfo) int { return slices.Compare(a.UID[:], b.UID[:]) })
	return orphans, nil
}

// isOurs reports whether an object was made for a key version of this store.
func (s *Service) isOurs(o *hsm.Object) bool {
	return strings.HasPrefix(o.Label, "keyholt:"+s.store.ID()+":") && o.UID != s.store.SealKey()
}

// isOrphan reports whether no version and no import job needs the object of that UID.
func (s *Snapshot) isOrphan(uid hsm.UID) bool {
	if job, ok := s.wrappingKeys.Get(string(uid[:])); ok && job.State != ImportJobExpired {
		return false
	}
	v := s.versionByUID(uid)
	return v == nil || v.State == StateDestroyed
}

// destroyOrphan destroys an orphan whose time has come, if it still is one. What no
// longer is loses its row only.
func (s *Service) destroyOrphan(ctx context.Context, uid hsm.UID) (done bool, err error) {
	if err := s.refresh(ctx); err != nil {
		return false, err
	}
	now := s.snapshot.Load()
	row, ok := now.orphans.Get(string(uid[:]))
	if !ok || now.origin != nil || row.DestroyTime.After(s.now()) {
		return false, nil
	}
	if err := firstError(s.checkDue(ctx, row.DestroyTime), s.refuseOtherCopy(ctx)); err != nil {
		return false, err
	}
	object, err := s.token.Key(ctx, uid)
	switch {
	case errors.Is(err, hsm.ErrKeyNotFound):
	case err != nil:
		return false, tokenError(err, "look up a key object")
	case s.isOurs(&object):
		if done, err = s.destroyIfOrphan(ctx, uid); err != nil {
			return false, err
		}
	}
	_, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
		row, ok := now.orphans.Get(string(uid[:]))
		if !ok {
			return nil, nil
		}
		return &Change{RemoveOrphans: []*Orphan{row}}, nil
	})
	return done && err == nil, err
}

// destroyIfOrphan destroys an object if, under the lock, still nothing needs it.
func (s *Service) destroyIfOrphan(ctx context.Context, uid hsm.UID) (done bool, err error) {
	unlock, err := s.lockObjects(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := s.refresh(ctx); err != nil {
		return false, err
	}
	now := s.snapshot.Load()
	if _, ok := now.orphans.Get(string(uid[:])); !ok || now.origin != nil || !now.isOrphan(uid) {
		return false, nil
	}
	return true, s.destroyUnderLock(ctx, uid)
}
