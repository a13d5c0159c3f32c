package kms

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// construction is how something comes to be that is a row and a token object. The row comes
// first (CREATING), then the object, then the activation of the row; what fails is undone,
// and what cannot be undone now is undone by the next attempt or the next start. Whoever
// constructs holds a lock; should the store's part of it be lost, and somebody else have
// begun to undo the construction, then the row has changed and is not activated.
type construction struct {
	name       string                          // for the log
	clear      func(ctx context.Context) error // takes out what is in the place; nil: nothing is
	announce   func(now *Snapshot) (*Change, error)
	makeObject func(ctx context.Context) error
	activate   func(now *Snapshot, announced Revision) (*Change, error)
	abandon    func(ctx context.Context) error
}

// generationTimeout bounds the making of a token object. Some tokens take a minute and
// more for an RSA key of 4,096 bits.
const generationTimeout = 5 * time.Minute

// construct returns the revision from which on what was made can be used.
func (s *Service) construct(ctx context.Context, c *construction) (Revision, error) {
	leave, err := s.constructions.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	if c.clear != nil {
		if err := c.clear(ctx); err != nil {
			return 0, err
		}
	}
	announced, err := s.commit(ctx, c.announce)
	if err != nil {
		return 0, err
	}

	// From here on the work goes on without its caller.
	making, made := context.WithTimeout(context.WithoutCancel(ctx), generationTimeout)
	err = c.makeObject(making)
	made()
	ctx, cancel := detached(ctx)
	defer cancel()
	var active Revision
	if err == nil {
		active, err = s.commit(ctx, func(now *Snapshot) (*Change, error) { return c.activate(now, announced) })
	}
	if err == nil {
		return active, nil
	}
	if undoErr := c.abandon(ctx); undoErr != nil {
		s.log.WarnContext(ctx, "something half made remains until the next attempt or start",
			slog.String("resource", c.name), slog.Any("error", causeOf(undoErr)))
	}
	return 0, err
}

// creation is a version to be made.
type creation struct {
	principal Principal
	key       *Key
	number    uint32 // 1: the key is stored with it
	requestID string
	digest    []byte
	restrict  bool // make the ENABLED older versions REWRAP_ONLY
	reason    string
	imported  *hsm.Wrapped // the key that the version is to be; nil: the token makes one
	aside     bool         // do not make it primary; version 1 always is
}

// makeVersion makes a version of a key, and makes it primary unless it is to stand aside.
// It returns the revision from which on it can be used. The caller holds the key's lock.
func (s *Service) makeVersion(ctx context.Context, c *creation) (Revision, error) {
	if err := s.checkCapability(c.key.Algorithm, c.key.Profile); err != nil {
		return 0, err
	}
	version := &Version{
		Name: c.key.Name.Version(c.number), State: StateCreating, CreateTime: s.now(), StateTime: s.now(),
		StatePrincipal: c.principal.Name, Imported: c.imported != nil, RequestID: c.requestID, RequestDigest: c.digest,
	}
	if _, err := rand.Read(version.UID[:]); err != nil {
		return 0, errorf(ErrTokenUnavailable, "no random bytes").because(err)
	}
	var made *madeObject
	return s.construct(ctx, &construction{
		name: version.Name.String(),
		announce: func(now *Snapshot) (*Change, error) {
			if now.namespace(c.key.Name.Namespace()) == nil {
				return nil, namespaceNotFound(c.key.Name.Namespace())
			}
			version.Epoch = now.epoch()
			change := &Change{Versions: []*Version{version}}
			if c.number == 1 {
				change.Keys = []*Key{c.key}
			}
			return change, nil
		},
		makeObject: func(ctx context.Context) (err error) {
			made, err = s.makeObject(ctx, version.UID, c)
			return err
		},
		activate: func(now *Snapshot, announced Revision) (*Change, error) {
			return s.activation(now, c, version, announced, made)
		},
		abandon: func(ctx context.Context) error { return s.abandon(ctx, version) },
	})
}

// repeated returns the version that was made by a request with the id, and with the same
// fields; nil: there is none.
func (k *keyEntry) repeated(requestID string, digest []byte) (*versionEntry, error) {
	if requestID == "" {
		return nil, nil //nolint:nilnil // a request without an id repeats nothing
	}
	for _, v := range k.versions {
		if v.RequestID != requestID || v.State == StateCreating {
			continue
		}
		if !slices.Equal(v.RequestDigest, digest) {
			return nil, errorf(ErrRequestIDReused, "request %s has made %s, by another call or with other fields", requestID, v.Name)
		}
		return v, nil
	}
	return nil, nil //nolint:nilnil // as above
}

// activation is the change that makes a version ENABLED, if its row is as it was announced.
func (s *Service) activation(
	now *Snapshot, c *creation, version *Version, announced Revision, made *madeObject,
) (*Change, error) {
	entry := now.version(version.Name)
	if entry == nil || entry.UID != version.UID || entry.Revision != announced {
		return nil, errorf(ErrConflict, "%s was changed by somebody else while it was made", version.Name)
	}
	active := *entry.Version
	active.State, active.StateTime = StateEnabled, s.now()
	active.Check, active.Attributes = made.check, made.attributes
	key := now.key(c.key.Name)
	change := &Change{Versions: []*Version{&active}}
	if !c.aside || c.number == 1 {
		promoted := key.Clone()
		promoted.Primary = c.number
		change.Keys = []*Key{promoted}
	}
	if c.restrict {
		change.Versions = append(change.Versions, restrictOlder(key, &active, c.reason)...)
	}
	return change, nil
}

// madeObject is what the row of a version keeps of its token object.
type madeObject struct {
	check      []byte
	attributes ObjectAttributes
}

// makeObject makes the token object of a version, or brings it in, and its check value with
// it.
func (s *Service) makeObject(ctx context.Context, uid hsm.UID, c *creation) (*madeObject, error) {
	key := c.key
	unlock, err := s.lockObjects(ctx)
	if err != nil {
		return nil, err
	}
	label, spec := objectLabel(s.store.ID(), s.now()), key.Algorithm.KeySpec(key.Profile)
	var object hsm.Object
	if c.imported == nil {
		object, err = s.token.GenerateKey(ctx, uid, label, spec)
	} else {
		object, err = s.token.UnwrapKey(ctx, uid, label, spec, *c.imported)
	}
	unlock()
	switch {
	case err != nil && c.imported != nil:
		return nil, importError(err, key.Algorithm)
	case err != nil:
		return nil, tokenError(err, "make a key of "+key.kind())
	}
	check, err := s.newCheckValue(ctx, uid, key.Algorithm, key.Profile)
	return &madeObject{check: check, attributes: attributesOf(&object)}, err
}

// kind is the algorithm of the key, and its profile if it has one.
func (k *Key) kind() string {
	if k.Profile == 0 {
		return k.Algorithm.String()
	}
	return k.Algorithm.String() + " " + k.Profile.String()
}

// objectsLock is the name of the lock that is held while token objects are made and
// destroyed. It is taken last.
const objectsLock = "objects"

// lockObjects waits for that lock. A store that is this process's alone has none: then it is one
// of the process, because what is begun must not wait for the token, which makes one object
// after the other, longer than it may take.
func (s *Service) lockObjects(ctx context.Context) (unlock func(), err error) {
	if !s.store.Exclusive() {
		return s.store.Lock(ctx, objectsLock)
	}
	if err := s.objects.lock(ctx); err != nil {
		return nil, err
	}
	return s.objects.unlock, nil
}

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
	unlock, err := s.lockObjects(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return s.destroyUnderLock(ctx, uid)
}

// destroyUnderLock is destroyObject for a caller that holds the lock of the objects.
func (s *Service) destroyUnderLock(ctx context.Context, uid hsm.UID) error {
	if err := s.token.DestroyKey(ctx, uid); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
		return tokenError(err, "destroy a key object")
	}
	return nil
}
