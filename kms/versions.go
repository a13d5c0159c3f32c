package kms

import (
	"context"
	"errors"
	"log/slog"
	"strconv"

	"github.com/keyholt/keyholt/hsm"
)

// GetKeyVersion returns a key version. Errors: ErrVersionNotFound.
func (s *Service) GetKeyVersion(ctx context.Context, p Principal, name VersionName) (*VersionInfo, error) {
	var found *VersionInfo
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionGetVersion, namespace: name.Key().Namespace(), key: name.Key(),
		resource: name.String(), invalid: required("name", name.IsZero()),
		work: func(context.Context) (err error) {
			found, err = s.versionInfo(name)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ListKeyVersions returns a page of the versions of a key, ordered by number. Errors:
// ErrKeyNotFound.
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
		work: func(context.Context) error {
			key := s.snapshot.Load().key(parent)
			if key == nil {
				return keyNotFound(parent)
			}
			for n := first; n <= len(key.versions); n++ {
				if len(list.Versions) == size {
					list.NextToken = pageToken(token, strconv.Itoa(n))
					break
				}
				list.Versions = append(list.Versions, key.versions[n-1].info(key))
			}
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// EnableKeyVersion lets a disabled version be used again: its object is switched on,
// then its row changed. Errors: ErrVersionNotFound, ErrTransition.
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

// RevokeKeyVersion stops all use of a version for ever: its row is changed, then its
// object switched off. Errors: ErrVersionNotFound, ErrTransition, ErrDataLoss.
func (s *Service) RevokeKeyVersion(ctx context.Context, p Principal, r *RevokeRequest) (*StateChange, error) {
	return s.changeState(ctx, &stateCall{
		principal: p, action: ActionRevokeVersion, name: r.Name, to: StateRevoked, reason: r.Reason,
		dataLossAccepted: r.DataLossAccepted, invalid: checkReason(r.Reason, true),
	})
}

// stateCall is a request to change the state of a version.
type stateCall struct {
	principal        Principal
	action           Action
	name             VersionName
	to               State
	reason           string
	dataLossAccepted bool
	invalid          error
}

func (s *Service) changeState(ctx context.Context, c *stateCall) (*StateChange, error) {
	var result *StateChange
	err := s.perform(ctx, &controlCall{
		principal: c.principal, action: c.action, namespace: c.name.Key().Namespace(), key: c.name.Key(),
		resource: c.name.String(), reason: c.reason,
		invalid: firstError(required("name", c.name.IsZero()), c.invalid),
		work: func(ctx context.Context) error {
			unlock, err := s.versionLocks.lock(ctx, c.name)
			if err != nil {
				return err
			}
			defer unlock()
			result, err = s.moveVersion(ctx, c)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// moveVersion changes row and object, in the order that leaves the object off whenever
// the process stops in between. Once the row is changed the change holds, whatever
// becomes of the object. The caller holds the version's lock.
func (s *Service) moveVersion(ctx context.Context, c *stateCall) (*StateChange, error) {
	change := func(now *Snapshot) (*Change, error) { return s.stateChange(now, c) }
	result := &StateChange{}
	if c.to.usable() {
		if _, err := change(s.snapshot.Load()); err != nil {
			return nil, err
		}
		entry := s.snapshot.Load().version(c.name)
		var err error
		if result.Switch, err = s.switchObject(ctx, entry, true); err != nil {
			s.switchBackOff(ctx, entry) // the token may have done it and failed to say so
			return nil, err
		}
		if err := s.commit(ctx, change); err != nil {
			s.switchBackOff(ctx, entry)
			return nil, err
		}
		entry.live.recover()
	} else {
		if err := s.commit(ctx, change); err != nil {
			return nil, err
		}
		ctx, cancel := detached(ctx)
		defer cancel()
		var err error
		if result.Switch, err = s.switchObject(ctx, s.snapshot.Load().version(c.name), false); err != nil {
			s.log.ErrorContext(ctx, "the token object of a version was not switched off; the service refuses it all the same",
				slog.String("key_version", c.name.String()), slog.Any("error", causeOf(err)))
		}
	}
	var err error
	result.Version, err = s.versionInfo(c.name)
	return result, err
}

// stateChange computes the change of a row; nil if it is in the state already.
func (s *Service) stateChange(now *Snapshot, c *stateCall) (*Change, error) {
	entry := now.version(c.name)
	if entry == nil {
		return nil, errorf(ErrVersionNotFound, "%s does not exist", c.name)
	}
	if entry.State == c.to {
		return nil, nil
	}
	if entry.State == StateCreating || !entry.State.canBecome(c.to) {
		return nil, errorf(ErrTransition, "%s is %s and cannot become %s", c.name, entry.State, c.to).
			with("key_version", c.name.String()).with("state", entry.State.String())
	}
	if c.to == StateRevoked && !entry.FirstUse.IsZero() && !c.dataLossAccepted {
		return nil, errorf(ErrDataLoss, "%s has been in use since %s: revoking it loses what it still protects; "+
			"rotate and rewrap first, or accept the loss", c.name, timeText(entry.FirstUse)).
			with("key_version", c.name.String()).with("first_use_time", timeText(entry.FirstUse))
	}
	moved := *entry.Version
	moved.State, moved.StateTime = c.to, s.now()
	moved.StatePrincipal, moved.StateReason = c.principal.Name, c.reason
	return &Change{Versions: []*Version{&moved}}, nil
}

// switchObject turns the usage attributes of a version's object on or off. That the
// module cannot is no error.
func (s *Service) switchObject(ctx context.Context, v *versionEntry, on bool) (TokenSwitch, error) {
	err := s.token.SetUsable(ctx, v.UID, on)
	switch {
	case err == nil:
		return SwitchDone, nil
	case errors.Is(err, hsm.ErrUnsupported):
		return SwitchUnsupported, nil
	default:
		return SwitchFailed, tokenError(err, "switch the key object")
	}
}

// switchBackOff undoes the first half of an enabling that did not succeed.
func (s *Service) switchBackOff(ctx context.Context, v *versionEntry) {
	ctx, cancel := detached(ctx)
	defer cancel()
	if now := s.snapshot.Load().version(v.Name); now != nil && now.State.usable() {
		return
	}
	if _, err := s.switchObject(ctx, v, false); err != nil {
		s.log.ErrorContext(ctx, "the token object of a version that is not enabled may remain switched on until the next start",
			slog.String("key_version", v.Name.String()), slog.Any("error", causeOf(err)))
	}
}

func (s *Service) versionInfo(name VersionName) (*VersionInfo, error) {
	now := s.snapshot.Load()
	v := now.version(name)
	if v == nil {
		return nil, errorf(ErrVersionNotFound, "%s does not exist", name)
	}
	return v.info(now.key(name.Key())), nil
}

// info is what callers are told of a version.
func (v *versionEntry) info(key *keyEntry) *VersionInfo {
	return &VersionInfo{
		Version: *v.Version, Primary: key.Primary == v.Name.Number(), Unavailable: v.live.whyUnavailable(),
	}
}
