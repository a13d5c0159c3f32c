package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// The calls that change the state of a version. Each returns when every replica has
// applied the change or is seen to hold no lease; else with ErrStillSpreading, and then
// the change is made all the same. A call repeated when the version is in the state
// already changes nothing, waits again and reports.

// EnableKeyVersion lets a version that is DISABLED or REWRAP_ONLY be used again: its
// object is switched on, then its row changed. Errors: ErrVersionNotFound, ErrTransition.
func (s *Service) EnableKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error) {
	return s.changeState(ctx, &stateCall{
		principal: p, action: ActionEnableVersion, name: name, to: StateEnabled, reason: reason,
		invalid: checkReason(reason, false),
	})
}

// DisableKeyVersion stops all use of a version until it is enabled again: its row is
// changed, then its object switched off. Errors: ErrVersionNotFound, ErrTransition.
func (s *Service) DisableKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error) {
	return s.changeState(ctx, &stateCall{
		principal: p, action: ActionDisableVersion, name: name, to: StateDisabled, reason: reason,
		invalid: checkReason(reason, false),
	})
}

// RestrictKeyVersion makes a version REWRAP_ONLY: what it protects can be rewrapped inside
// the service, and no plaintext comes out. Its object stays on, or is switched on if the
// version was DISABLED. Errors: ErrVersionNotFound, ErrTransition.
func (s *Service) RestrictKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error) {
	return s.changeState(ctx, &stateCall{
		principal: p, action: ActionRestrictVersion, name: name, to: StateRewrapOnly, reason: reason,
		invalid: checkReason(reason, false),
	})
}

// RevokeKeyVersion stops all use of a version for ever: its row is changed, then its
// object switched off. Errors: ErrVersionNotFound, ErrTransition, ErrDataLoss.
func (s *Service) RevokeKeyVersion(ctx context.Context, p Principal, r *RevokeRequest) (*StateChange, error) {
	return s.changeState(ctx, &stateCall{
		principal: p, action: ActionRevokeVersion, name: r.Name, to: StateRevoked, reason: r.Reason,
		dataLossAccepted: r.DataLossAccepted, invalid: checkReason(r.Reason, true),
	})
}

// ScheduleKeyVersionDestruction stops all use of a version, and has its token object
// destroyed when the window has passed, unless it is restored before. Errors:
// ErrVersionNotFound, ErrTransition, ErrDataLoss.
func (s *Service) ScheduleKeyVersionDestruction(ctx context.Context, p Principal, r *DestructionRequest) (*StateChange, error) {
	return s.changeState(ctx, &stateCall{
		principal: p, action: ActionScheduleVersion, name: r.Name, to: StateDestroyScheduled, reason: r.Reason,
		window: r.Window, dataLossAccepted: r.DataLossAccepted,
		invalid: firstError(checkReason(r.Reason, true), s.checkWindow(r.Window)),
	})
}

// RestoreKeyVersion takes the destruction of a version back that has not begun yet. The
// version is then REVOKED if it was before, else DISABLED. Errors: ErrVersionNotFound,
// ErrTransition, ErrVersionDestroyed (its object is gone, or its destruction has begun).
func (s *Service) RestoreKeyVersion(ctx context.Context, p Principal, name VersionName, reason string) (*StateChange, error) {
	return s.changeState(ctx, &stateCall{
		principal: p, action: ActionRestoreVersion, name: name, reason: reason,
		invalid: checkReason(reason, false),
	})
}

// checkWindow checks the window of a destruction; 0 is the default.
func (s *Service) checkWindow(window time.Duration) error {
	if window != 0 && window < s.destruction.MinWindow {
		return Invalid(Violation{"window", fmt.Sprintf("%v is shorter than %v", window, s.destruction.MinWindow)})
	}
	return nil
}

// stateCall is a request to change the state of a version.
type stateCall struct {
	principal        Principal
	action           Action
	name             VersionName
	to               State // zero: the one that the row is to be restored to
	reason           string
	window           time.Duration // ActionScheduleVersion; 0: the default
	begin            time.Time     // of the window
	dataLossAccepted bool
	// repair: ActionEnableVersion of a version that is ENABLED, and unavailable or
	// switched off: its row is changed, so that all replicas try it again.
	repair  bool
	invalid error
}

func (s *Service) changeState(ctx context.Context, c *stateCall) (*StateChange, error) {
	var result *StateChange
	call := &controlCall{
		principal: c.principal, action: c.action, namespace: c.name.Key().Namespace(), key: c.name.Key(),
		resource: c.name.String(), reason: c.reason,
		invalid: firstError(required("name", c.name.IsZero()), c.invalid),
	}
	call.work = func(ctx context.Context) error {
		change, wait, err := s.moveUnderLock(ctx, c)
		if err != nil {
			return err
		}
		if change.Spread, err = wait(); err == nil {
			result = change
		}
		call.spread = &change.Spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return result, nil
}

// lockPatience is how long a change that stops the use of a version waits for its lock.
const lockPatience = 500 * time.Millisecond

// moveUnderLock changes row and object of a version. Who stops its use does not wait for
// ever for another change of it that hangs: the lock only keeps the object from being
// switched on after it was switched off, and that the change of the row prevents too,
// unless the other process dies between object and row.
func (s *Service) moveUnderLock(ctx context.Context, c *stateCall) (*StateChange, func() (Spread, error), error) {
	lockCtx, cancel := ctx, func() {}
	stops := !s.leavesUsable(c)
	if stops {
		lockCtx, cancel = context.WithTimeout(ctx, lockPatience)
	}
	defer cancel()
	unlock, err := s.lockVersion(lockCtx, c.name)
	switch {
	case err == nil:
		defer unlock()
	case stops && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		s.log.WarnContext(ctx, "another change of a version takes long; its use is stopped meanwhile",
			slog.String("key_version", c.name.String()), slog.String("action", string(c.action)))
		if err := s.refresh(ctx); err != nil {
			return nil, nil, err
		}
	default:
		return nil, nil, err
	}
	if err := s.prepareMove(ctx, c); err != nil {
		return nil, nil, err
	}
	return s.moveVersion(ctx, c)
}

// leavesUsable reports whether a version whose state was changed as asked can still be
// used for something that needs its token object.
func (s *Service) leavesUsable(c *stateCall) bool {
	key := s.snapshot.Load().key(c.name.Key())
	return key != nil && c.to.usable(key.Purpose)
}

// prepareMove looks at what a change of the row alone does not see: the token object,
// and the usage that a refusal tells.
func (s *Service) prepareMove(ctx context.Context, c *stateCall) (err error) {
	if c.action == ActionScheduleVersion {
		if c.begin, err = s.windowBegin(ctx); err != nil {
			return err
		}
	}
	now := s.snapshot.Load()
	entry := now.version(c.name)
	if _, err := s.stateChange(now, c); err != nil {
		if entry != nil && errors.Is(err, ErrDataLoss) {
			return s.withUsage(ctx, entry, err)
		}
		return err
	}
	switch {
	case c.action == ActionRestoreVersion && entry.State == StateDestroyScheduled:
		if _, err := s.token.Key(ctx, entry.UID); errors.Is(err, hsm.ErrKeyNotFound) {
			return errorf(ErrVersionDestroyed, "%s cannot be restored: its object is gone from the token", c.name).
				with("key_version", c.name.String()).because(err)
		} else if err != nil {
			return tokenError(err, "look up the key object")
		}
	case c.action == ActionEnableVersion && entry.State == StateEnabled:
		object, err := s.token.Key(ctx, entry.UID)
		if err != nil {
			return tokenError(err, "look up the key object")
		}
		c.repair = !object.Usable || entry.live.whyUnavailable() != ""
	}
	return nil
}

// moveVersion changes row and object, in the order that leaves the object off whenever
// the process stops in between. Once the row is changed the change holds, whatever
// becomes of the object. From then on it waits for the other replicas, whatever is still
// to be done here; the function returned waits for the end of that.
func (s *Service) moveVersion(ctx context.Context, c *stateCall) (*StateChange, func() (Spread, error), error) {
	result := &StateChange{Switch: SwitchDone}
	var since Revision // 0, or the version is in the state since
	change := func(now *Snapshot) (*Change, error) {
		change, err := s.stateChange(now, c)
		since = 0
		if change == nil && err == nil {
			since = now.version(c.name).Revision
		}
		return change, err
	}
	entry := s.snapshot.Load().version(c.name)
	var wait func() (Spread, error)
	var revision Revision
	var err error
	if s.leavesUsable(c) {
		if c.action == ActionEnableVersion || !entry.usable() {
			if result.Switch, err = s.switchObject(ctx, entry, true); err != nil {
				s.switchBackOff(ctx, entry) // the token may have done it and failed to say so
				return nil, nil, err
			}
		}
		if revision, err = s.commit(ctx, change); err != nil {
			s.switchBackOff(ctx, entry)
			return nil, nil, err
		}
		wait = s.spreadMeanwhile(ctx, cmp.Or(since, revision))
	} else {
		if revision, err = s.commit(ctx, change); err != nil {
			if now := s.snapshot.Load().version(c.name); now != nil && !now.usable() {
				s.switchOff(ctx, entry) // the row was changed, and only the answer lost
			}
			return nil, nil, err
		}
		wait = s.spreadMeanwhile(ctx, cmp.Or(since, revision))
		result.Switch = s.switchOff(ctx, entry)
	}
	result.Version, err = s.changedVersion(ctx, c.name)
	return result, wait, err
}

// stateChange computes the change of a row; nil if it is in the state already.
func (s *Service) stateChange(now *Snapshot, c *stateCall) (*Change, error) {
	entry := now.version(c.name)
	if entry == nil {
		return nil, versionNotFound(c.name)
	}
	to := c.to
	if c.action == ActionRestoreVersion {
		to = entry.restoreTo()
	}
	if c.action == ActionRestoreVersion && (entry.destroying() || entry.State == StateDestroyed) {
		return nil, errorf(ErrVersionDestroyed, "%s is %s and cannot be restored: %s", c.name, entry.State, entry.wayOut(c.action)).
			with("key_version", c.name.String()).with("state", entry.State.String())
	}
	if entry.State == to && !c.repair {
		return nil, s.checkSchedule(now, entry, c)
	}
	if entry.State != to && !entry.State.leadsTo(c.action, to) {
		return nil, c.refusal(entry)
	}
	if (to == StateRevoked || to == StateDestroyScheduled) && entry.State != StateDestroyScheduled &&
		now.protects(entry) && !c.dataLossAccepted {
		return nil, dataLoss(entry, to)
	}
	moved := *entry.Version
	moved.State, moved.StateTime = to, s.now()
	moved.StatePrincipal, moved.StateReason = c.principal.Name, c.reason
	moved.DestroyTime, moved.RestoreTo = time.Time{}, 0
	if to == StateDestroyScheduled {
		moved.StateTime = c.begin
		moved.DestroyTime, moved.RestoreTo = moved.StateTime.Add(s.windowOf(c.window)), entry.State.restoredTo()
	}
	return &Change{Versions: []*Version{&moved}}, nil
}

func (s *Service) windowOf(asked time.Duration) time.Duration {
	if asked == 0 {
		return s.destruction.Window
	}
	return asked
}

// checkSchedule refuses another window for a version that is scheduled already.
func (s *Service) checkSchedule(now *Snapshot, entry *versionEntry, c *stateCall) error {
	if c.window == 0 || entry.DestroyTime.Sub(entry.StateTime) == c.window {
		return nil
	}
	return errorf(ErrTransition, "%s is to be destroyed at %s already: restore it first to set another time",
		c.name, timeText(s.destruction.destroyTime(now, entry))).
		with("key_version", c.name.String()).with("state", entry.State.String())
}

// restoreTo is the state that the version is in when it is restored. One that is
// DISABLED or REVOKED is taken as restored already.
func (v *versionEntry) restoreTo() State {
	if v.State == StateRevoked || v.State == StateDestroyScheduled && v.RestoreTo == StateRevoked {
		return StateRevoked
	}
	return StateDisabled
}

// destroying reports whether the destruction of the version has begun: then its object
// may be gone, and it is not restored any more.
func (v *versionEntry) destroying() bool { return v.State == StateDestroyScheduled && v.RestoreTo == 0 }

// refusal is the error of a transition that the table does not have.
func (c *stateCall) refusal(entry *versionEntry) error {
	doing := map[Action]string{
		ActionEnableVersion: "enabled", ActionDisableVersion: "disabled", ActionRestrictVersion: "restricted",
		ActionRevokeVersion: "revoked", ActionScheduleVersion: "scheduled for destruction", ActionRestoreVersion: "restored",
	}[c.action]
	why := ""
	if way := entry.wayOut(c.action); way != "" {
		why = ": " + way
	}
	return errorf(ErrTransition, "%s is %s and cannot be %s%s", c.name, entry.State, doing, why).
		with("key_version", c.name.String()).with("state", entry.State.String())
}

// wayOut says what leads to what an action wanted that the version's state does not allow,
// or why nothing does; empty if there is nothing to add to the state.
func (v *versionEntry) wayOut(a Action) string {
	switch {
	case v.State == StateDestroyed:
		return "its object was destroyed at " + timeText(v.DestroyTime) + ", which is final"
	case v.destroying():
		return "its destruction has begun, which is final"
	case v.State == StateDestroyScheduled && v.restoreTo() == StateRevoked:
		return "it was REVOKED before, and is again when it is restored"
	case v.State == StateDestroyScheduled:
		return "restore it first; that makes it DISABLED, in which it cannot be used either"
	case v.State == StateRevoked:
		return "a revocation is for ever"
	case v.State == StateRewrapOnly && a == ActionScheduleVersion:
		return "disable or revoke it first"
	}
	return ""
}

// dataLoss is the error of a change that loses what the version protects.
func dataLoss(entry *versionEntry, to State) *Error {
	since := "may have been in use before the store was restored or rolled back"
	switch {
	case !entry.FirstUse.IsZero():
		since = "has been in use since " + timeText(entry.FirstUse)
	case entry.Imported:
		since = "was imported, and may have been in use elsewhere"
	}
	loses := "it loses what it still protects; rotate and rewrap first, or accept the loss"
	switch entry.algorithm.Purpose() {
	case PurposeAsymmetricSign:
		loses = "what it has signed is vouched for no longer; rotate and sign again first, or accept the loss"
	case PurposeMAC:
		loses = "no MAC that it has made can be verified any more; rotate and make them again first, or accept the loss"
	}
	err := errorf(ErrDataLoss, "%s %s: as %s %s", entry.Name, since, to, loses).with("key_version", entry.Name.String())
	if !entry.FirstUse.IsZero() {
		err = err.with("first_use_time", timeText(entry.FirstUse))
	}
	return err
}

// withUsage adds to a refusal how often and when the version was used, if it is known.
func (s *Service) withUsage(ctx context.Context, entry *versionEntry, refusal error) error {
	var e *Error
	usage, err := s.usageOf(ctx, entry)
	if err != nil || !errors.As(refusal, &e) {
		return refusal
	}
	count, last := totalUsage(usage[entry.UID])
	if count == 0 {
		return refusal
	}
	told := e.with("use_count", fmt.Sprint(count)).with("last_use_time", timeText(last))
	told.Message += fmt.Sprintf(" (used %s, last at %s)", Counted(count, "time"), timeText(last))
	return told
}
