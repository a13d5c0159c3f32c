package kms

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"
)

// CreateKey creates a key and its first version, which becomes primary. A call repeated
// with the same request id returns the key that the first made. When it returns, all
// replicas know the key. Errors: ErrKeyExists, ErrNamespaceNotFound, ErrUnsupported (the
// token cannot make such a key), ErrRequestIDReused, ErrStillSpreading.
func (s *Service) CreateKey(ctx context.Context, p Principal, r *CreateKeyRequest) (*KeyInfo, error) {
	spec, invalid := r.withDefaults()
	var made *KeyInfo
	call := &controlCall{
		principal: p, action: ActionCreateKey, namespace: r.Name.Namespace(), key: r.Name, resource: r.Name.String(),
		invalid: invalid,
	}
	call.work = func(ctx context.Context) error {
		info, revision, err := s.createKey(ctx, p, spec)
		if err != nil {
			return err
		}
		spread, err := s.spread(ctx, revision)
		if err == nil {
			made = info
		}
		call.spread = &spread
		return err
	}
	if err := s.perform(ctx, call); err != nil {
		return nil, err
	}
	return made, nil
}

func (s *Service) createKey(ctx context.Context, p Principal, r *CreateKeyRequest) (*KeyInfo, Revision, error) {
	unlock, err := s.lockKey(ctx, r.Name)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	key := &Key{
		Name: r.Name, Purpose: r.Purpose, Algorithm: r.Algorithm, Profile: r.Profile, Labels: maps.Clone(r.Labels),
		RotationPeriod: r.RotationPeriod, CreateTime: s.now(), CreatedBy: p.Name,
	}
	digest := r.digest()
	if existing := s.snapshot.Load().key(r.Name); existing != nil {
		first := existing.versions[0]
		if first.State == StateCreating {
			// What an earlier attempt left and could not clear away.
			if err := s.undoCreation(ctx, first); err != nil {
				return nil, 0, err
			}
		} else if r.RequestID == "" || first.RequestID != r.RequestID {
			return nil, 0, errorf(ErrKeyExists, "%s exists already", r.Name)
		} else if !slices.Equal(first.RequestDigest, digest) {
			return nil, 0, errorf(ErrRequestIDReused, "request %s created %s with other fields", r.RequestID, r.Name)
		} else {
			return existing.info(), s.snapshot.Load().Revision(), nil
		}
	}
	revision, err := s.makeVersion(ctx, &creation{principal: p, key: key, number: 1, requestID: r.RequestID, digest: digest})
	if err != nil {
		return nil, 0, err
	}
	return s.snapshot.Load().key(r.Name).info(), revision, nil
}

// withDefaults returns the request with what is unspecified filled in.
func (r *CreateKeyRequest) withDefaults() (*CreateKeyRequest, error) {
	c := *r
	if c.Purpose == 0 {
		c.Purpose = c.Algorithm.Purpose()
	}
	if c.Purpose == 0 && c.Algorithm == 0 {
		c.Purpose = PurposeEncryptDecrypt
	}
	if c.Algorithm == 0 {
		c.Algorithm = c.Purpose.DefaultAlgorithm()
	}
	if c.Purpose == PurposeEncryptDecrypt && c.Profile == 0 {
		c.Profile = ProfileDerived
	}
	return &c, firstError(
		required("key_id", c.Name.IsZero()),
		checkCombination(c.Purpose, c.Algorithm, c.Profile),
		checkLabels("key.labels", c.Labels),
		checkRotationPeriod("key.rotation_period", c.RotationPeriod),
		checkRequestID(c.RequestID),
	)
}

func checkChoice(field string, known bool) error {
	if !known {
		return Invalid(Violation{field, "is not supported"})
	}
	return nil
}

// digest identifies what a request with an id asked for: SHA-256 over its fields, each
// with its length before it.
func (r *CreateKeyRequest) digest() []byte {
	fields := []string{
		r.Name.String(), r.Purpose.String(), r.Algorithm.String(), r.Profile.String(), r.RotationPeriod.String(),
	}
	for _, label := range slices.Sorted(maps.Keys(r.Labels)) {
		fields = append(fields, label, r.Labels[label])
	}
	return digestFields(fields...)
}

func digestFields(fields ...string) []byte {
	h := sha256.New()
	for _, f := range fields {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(f))))
		h.Write([]byte(f))
	}
	return h.Sum(nil)
}

// GetKey returns a key. Errors: ErrKeyNotFound.
func (s *Service) GetKey(ctx context.Context, p Principal, name KeyName) (*KeyInfo, error) {
	var found *KeyInfo
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionGetKey, namespace: name.Namespace(), key: name, resource: name.String(),
		invalid: required("name", name.IsZero()),
		work: func(context.Context) error {
			key := s.snapshot.Load().key(name)
			if key == nil {
				return keyNotFound(name)
			}
			found = key.info()
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ListKeys returns a page of the keys of a namespace, ordered by name. Errors:
// ErrNamespaceNotFound.
func (s *Service) ListKeys(ctx context.Context, p Principal, parent NamespaceName, page Page) (*KeyList, error) {
	list := &KeyList{}
	token := "keys/" + parent.ID()
	from, size, invalid := page.parse(token)
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionListKeys, namespace: parent, resource: parent.String(),
		invalid: firstError(required("parent", parent.IsZero()), invalid),
		work: func(context.Context) error {
			now := s.snapshot.Load()
			if now.namespace(parent) == nil {
				return namespaceNotFound(parent)
			}
			prefix := parent.ID() + "\x00"
			now.keys.Ascend(prefix+from, func(index string, key *keyEntry) bool {
				if !strings.HasPrefix(index, prefix) {
					return false
				}
				if len(list.Keys) == size {
					list.NextToken = pageToken(token, key.Name.ID())
					return false
				}
				list.Keys = append(list.Keys, key.info())
				return true
			})
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// UpdateKey changes the labels or the rotation period of a key. Errors: ErrKeyNotFound,
// ErrEtagMismatch.
func (s *Service) UpdateKey(ctx context.Context, p Principal, r *UpdateKeyRequest) (*KeyInfo, error) {
	invalid := required("key.name", r.Name.IsZero())
	if r.Labels != nil {
		invalid = firstError(invalid, checkLabels("key.labels", *r.Labels))
	}
	if r.RotationPeriod != nil {
		invalid = firstError(invalid, checkRotationPeriod("key.rotation_period", *r.RotationPeriod))
	}
	var updated *KeyInfo
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionUpdateKey, namespace: r.Name.Namespace(), key: r.Name, resource: r.Name.String(),
		invalid: invalid,
		work: func(ctx context.Context) error {
			if _, err := s.commit(ctx, r.change); err != nil {
				return err
			}
			updated = s.snapshot.Load().key(r.Name).info()
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return updated, nil
}

func (r *UpdateKeyRequest) change(now *Snapshot) (*Change, error) {
	key := now.key(r.Name)
	if key == nil {
		return nil, keyNotFound(r.Name)
	}
	if r.Etag != "" && r.Etag != key.Revision.Etag() {
		return nil, errorf(ErrEtagMismatch, "%s has changed: its etag is %s", r.Name, key.Revision.Etag())
	}
	changed := key.Clone()
	if r.Labels != nil {
		changed.Labels = maps.Clone(*r.Labels)
	}
	if r.RotationPeriod != nil {
		changed.RotationPeriod = *r.RotationPeriod
	}
	return &Change{Keys: []*Key{changed}}, nil
}

// info is what callers are told of a key.
func (k *keyEntry) info() *KeyInfo {
	info := &KeyInfo{Key: *k.Clone(), VersionCount: len(k.versions)}
	if primary := k.primary(); primary != nil {
		info.PrimaryState = primary.State
		info.RotateTime = primary.CreateTime
	}
	return info
}

// rotationDue is when the key is to be rotated next; false: never by itself.
func (k *keyEntry) rotationDue() (time.Time, bool) {
	primary := k.primary()
	if k.RotationPeriod == 0 || primary == nil {
		return time.Time{}, false
	}
	return primary.CreateTime.Add(k.RotationPeriod), true
}
