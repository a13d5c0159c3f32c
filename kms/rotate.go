package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"

	"github.com/keyholt/keyholt/hsm"
)

// RotateKey makes a new version of a key and makes it primary; the older ones keep
// their states. A call repeated with the same request id returns the version that the
// first made. Errors: ErrKeyNotFound, ErrUnsupported.
func (s *Service) RotateKey(ctx context.Context, p Principal, name KeyName, requestID string) (*RotateKeyResult, error) {
	var result *RotateKeyResult
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionRotateKey, namespace: name.Namespace(), key: name, resource: name.String(),
		invalid: firstError(required("name", name.IsZero()), checkRequestID(requestID)),
		work: func(ctx context.Context) (err error) {
			unlock, err := s.keyLocks.lock(ctx, name)
			if err != nil {
				return err
			}
			defer unlock()
			result, err = s.rotate(ctx, p, name, requestID)
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// rotate does the work of a rotation. The caller holds the key's lock.
func (s *Service) rotate(ctx context.Context, p Principal, name KeyName, requestID string) (*RotateKeyResult, error) {
	key := s.snapshot.Load().key(name)
	if key == nil || key.Primary == 0 {
		return nil, keyNotFound(name)
	}
	digest := digestFields("RotateKey", name.String())
	if requestID != "" {
		for _, v := range key.versions {
			if v.RequestID == requestID && v.State != StateCreating {
				if string(v.RequestDigest) != string(digest) {
					return nil, errorf(ErrRequestIDReused, "request %s was not a rotation of %s", requestID, name)
				}
				return &RotateKeyResult{Version: v.info(key), Key: key.info()}, nil
			}
		}
	}
	if last := key.versions[len(key.versions)-1]; last.State == StateCreating {
		// What an earlier attempt left and could not clear away.
		if err := s.undoCreation(ctx, last); err != nil {
			return nil, err
		}
	}
	number := uint32(len(s.snapshot.Load().key(name).versions)) + 1
	if err := s.makeVersion(ctx, p, key.Key, number, requestID, digest); err != nil {
		return nil, err
	}
	s.rotator.wake()
	rotated := s.snapshot.Load().key(name)
	return &RotateKeyResult{Version: rotated.versions[number-1].info(rotated), Key: rotated.info()}, nil
}

// makeVersion makes a version of a key, which is stored with it if it is the first, and
// makes it primary. The row comes first (CREATING), then the object, then the
// activation of the row; what fails is undone, and what cannot be undone now is undone
// by the next attempt or the next start. The caller holds the key's lock.
func (s *Service) makeVersion(
	ctx context.Context, p Principal, key *Key, number uint32, requestID string, digest []byte,
) error {
	version := &Version{
		Name: key.Name.Version(number), State: StateCreating, CreateTime: s.now(), StateTime: s.now(),
		StatePrincipal: p.Name, RequestID: requestID, RequestDigest: digest,
	}
	if _, err := rand.Read(version.UID[:]); err != nil {
		return errorf(ErrTokenUnavailable, "no random bytes").because(err)
	}
	err := s.commit(ctx, func(now *Snapshot) (*Change, error) {
		if now.namespace(key.Name.Namespace()) == nil {
			return nil, namespaceNotFound(key.Name.Namespace())
		}
		change := &Change{Versions: []*Version{version}}
		if number == 1 {
			change.Keys = []*Key{key}
		}
		return change, nil
	})
	if err != nil {
		return err
	}

	// From here on the work goes on without its caller.
	ctx, cancel := detached(ctx)
	defer cancel()
	check, err := s.makeObject(ctx, version.UID, key.Profile)
	if err == nil {
		err = s.commit(ctx, func(now *Snapshot) (*Change, error) {
			entry := now.version(version.Name)
			if entry == nil || entry.State != StateCreating || entry.UID != version.UID {
				return nil, errorf(ErrConflict, "%s was changed by somebody else while it was made", version.Name)
			}
			active := *entry.Version
			active.State, active.StateTime, active.Check = StateEnabled, s.now(), check
			promoted := now.key(key.Name).Clone()
			promoted.Primary = number
			return &Change{Keys: []*Key{promoted}, Versions: []*Version{&active}}, nil
		})
	}
	if err == nil {
		return nil
	}
	if left := s.snapshot.Load().version(version.Name); left != nil && left.State == StateCreating {
		if undoErr := s.undoCreation(ctx, left); undoErr != nil {
			s.log.WarnContext(ctx, "a half-made key version remains until the next attempt or start",
				slog.String("key_version", version.Name.String()), slog.Any("error", causeOf(undoErr)))
		}
	}
	return err
}

// makeObject makes a version's token object, and its check value with it.
func (s *Service) makeObject(ctx context.Context, uid hsm.UID, p Profile) ([]byte, error) {
	_, err := s.token.GenerateKey(ctx, uid, objectLabel(s.store.ID(), s.now()), p.keySpec())
	if err != nil {
		return nil, tokenError(err, "make a key of profile "+p.String())
	}
	return s.newCheckValue(ctx, uid, p)
}

// undoCreation removes what there is of a version in state CREATING: its object, its
// row, and its key if it is the only version.
func (s *Service) undoCreation(ctx context.Context, v *versionEntry) error {
	if err := s.token.DestroyKey(ctx, v.UID); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
		return tokenError(err, "remove a half-made key")
	}
	return s.commit(ctx, func(now *Snapshot) (*Change, error) {
		entry := now.version(v.Name)
		if entry == nil || entry.State != StateCreating {
			return nil, nil
		}
		change := &Change{RemoveVersions: []*Version{entry.Version}}
		if key := now.key(v.Name.Key()); len(key.versions) == 1 {
			change.RemoveKeys = []*Key{key.Key}
		}
		return change, nil
	})
}
