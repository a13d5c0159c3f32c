package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"

	"github.com/keyholt/keyholt/hsm"
)

// creation is a version to be made.
type creation struct {
	principal Principal
	key       *Key
	number    uint32 // 1: the key is stored with it
	requestID string
	digest    []byte
	restrict  bool // make the ENABLED older versions REWRAP_ONLY
	reason    string
}

// makeVersion makes a version of a key and makes it primary, and returns the revision
// from which on it is. The row comes first (CREATING), then the object, then the
// activation of the row; what fails is undone, and what cannot be undone now is undone
// by the next attempt or the next start. The caller holds the key's lock; should it have
// lost the store's part of it, and somebody else have begun to undo the creation, then
// the row has changed and is not activated.
func (s *Service) makeVersion(ctx context.Context, c *creation) (Revision, error) {
	version := &Version{
		Name: c.key.Name.Version(c.number), State: StateCreating, CreateTime: s.now(), StateTime: s.now(),
		StatePrincipal: c.principal.Name, RequestID: c.requestID, RequestDigest: c.digest,
	}
	if _, err := rand.Read(version.UID[:]); err != nil {
		return 0, errorf(ErrTokenUnavailable, "no random bytes").because(err)
	}
	announced, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		if now.namespace(c.key.Name.Namespace()) == nil {
			return nil, namespaceNotFound(c.key.Name.Namespace())
		}
		version.Epoch = now.epoch()
		change := &Change{Versions: []*Version{version}}
		if c.number == 1 {
			change.Keys = []*Key{c.key}
		}
		return change, nil
	})
	if err != nil {
		return 0, err
	}

	// From here on the work goes on without its caller.
	ctx, cancel := detached(ctx)
	defer cancel()
	check, err := s.makeObject(ctx, version.UID, c.key.Profile)
	var active Revision
	if err == nil {
		active, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
			return s.activation(now, c, version, announced, check)
		})
	}
	if err == nil {
		return active, nil
	}
	if undoErr := s.abandon(ctx, version); undoErr != nil {
		s.log.WarnContext(ctx, "a half-made key version remains until the next attempt or start",
			slog.String("key_version", version.Name.String()), slog.Any("error", causeOf(undoErr)))
	}
	return 0, err
}

// activation is the change that makes a version ENABLED and primary, if its row is as it
// was announced.
func (s *Service) activation(now *Snapshot, c *creation, version *Version, announced Revision, check []byte) (*Change, error) {
	entry := now.version(version.Name)
	if entry == nil || entry.UID != version.UID || entry.Revision != announced {
		return nil, errorf(ErrConflict, "%s was changed by somebody else while it was made", version.Name)
	}
	active := *entry.Version
	active.State, active.StateTime, active.Check = StateEnabled, s.now(), check
	key := now.key(c.key.Name)
	promoted := key.Clone()
	promoted.Primary = c.number
	change := &Change{Keys: []*Key{promoted}, Versions: []*Version{&active}}
	if c.restrict {
		change.Versions = append(change.Versions, restrictOlder(key, &active, c.reason)...)
	}
	return change, nil
}

// makeObject makes a version's token object, and its check value with it.
func (s *Service) makeObject(ctx context.Context, uid hsm.UID, p Profile) ([]byte, error) {
	unlock, err := s.lockStore(ctx, objectsLock)
	if err != nil {
		return nil, err
	}
	_, err = s.token.GenerateKey(ctx, uid, objectLabel(s.store.ID(), s.now()), p.keySpec())
	unlock()
	if err != nil {
		return nil, tokenError(err, "make a key of profile "+p.String())
	}
	return s.newCheckValue(ctx, uid, p)
}

// objectsLock is the name of the lock that is held while token objects are made and
// destroyed. It is taken last.
const objectsLock = "objects"

// abandon clears away what there is of a version whose making failed, once it is known
// what the store holds of it.
func (s *Service) abandon(ctx context.Context, version *Version) error {
	if err := s.refresh(ctx); err != nil {
		return err
	}
	left := s.snapshot.Load().versionByUID(version.UID)
	switch {
	case left == nil: // somebody else has undone it, perhaps before its object was made
		return s.destroyObject(ctx, version.UID)
	case left.State == StateCreating:
		return s.undoCreation(ctx, left)
	default: // it was activated, and only the answer was lost
		return nil
	}
}

// undoCreation removes what there is of a version in state CREATING: its object, its
// row, and its key if it is the only version. First it changes the row, so that who may
// be making the version still does not activate it. The caller holds the key's lock.
func (s *Service) undoCreation(ctx context.Context, v *versionEntry) error {
	creating := func(now *Snapshot) *versionEntry {
		if entry := now.versionByUID(v.UID); entry != nil && entry.State == StateCreating {
			return entry
		}
		return nil
	}
	_, err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		entry := creating(now)
		if entry == nil {
			return nil, errorf(ErrConflict, "%s is not being created any more", v.Name)
		}
		abandoned := *entry.Version
		abandoned.StateReason = "abandoned"
		return &Change{Versions: []*Version{&abandoned}}, nil
	})
	if err != nil {
		return err
	}
	if err := s.destroyObject(ctx, v.UID); err != nil {
		return err
	}
	_, err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
		entry := creating(now)
		if entry == nil {
			return nil, nil
		}
		change := &Change{RemoveVersions: []*Version{entry.Version}}
		if key := now.key(v.Name.Key()); len(key.versions) == 1 {
			change.RemoveKeys = []*Key{key.Key}
		}
		return change, nil
	})
	return err
}

// destroyObject destroys a token object, which may be gone already.
func (s *Service) destroyObject(ctx context.Context, uid hsm.UID) error {
	unlock, err := s.lockStore(ctx, objectsLock)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.token.DestroyKey(ctx, uid); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
		return tokenError(err, "destroy a key object")
	}
	return nil
}
