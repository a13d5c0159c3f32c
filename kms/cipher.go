package kms

import (
	"context"
	"errors"

	"github.com/keyholt/keyholt/kms/envelope"
)

// profileCipher does the work of one protection profile on items of one key version:
// token and host together. Outcomes are per item; the returned error concerns all.
type profileCipher interface {
	open(ctx context.Context, v *versionEntry, u use, items []*item) error
	seal(ctx context.Context, v *versionEntry, kind envelope.Kind, items []*item) error
}

// cipherOf returns the cipher of a profile.
func (s *Service) cipherOf(p Profile) profileCipher {
	if p == ProfileStrict {
		return strictCipher{s}
	}
	return derivedCipher{s}
}

// openItems opens the items that were resolved, one key version after the other. A version
// that the token cannot use fails its own items.
func (s *Service) openItems(ctx context.Context, c *dataCall) error {
	groups := groupByVersion(c.items, func(it *item) *versionEntry {
		if it.err != nil {
			return nil
		}
		return it.opened
	})
	var outcomes versionOutcomes
	for _, g := range groups {
		err := s.cipherOf(g.version.profile).open(ctx, g.version, c.openUse, g.items)
		if all := outcomes.note(err); all != nil {
			return all
		}
		if err == nil {
			continue
		}
		err = s.explain(g.version, c.openUse, err)
		for _, it := range g.items {
			it.err = err
		}
	}
	return outcomes.end()
}

// sealItems seals the items that were resolved, one key version after the other. A version
// that the token cannot use fails its own items.
func (s *Service) sealItems(ctx context.Context, c *dataCall) error {
	groups := groupByVersion(c.items, func(it *item) *versionEntry {
		if !it.seals() {
			return nil
		}
		return it.sealed
	})
	// What is sealed for good measure was opened: the token was used.
	outcomes := versionOutcomes{served: c.seals == sealOld}
	for _, g := range groups {
		err := s.markUsed(ctx, g.version, useSeal)
		if err == nil {
			err = s.cipherOf(g.version.profile).seal(ctx, g.version, c.kind, g.items)
		}
		if all := outcomes.note(err); all != nil {
			return all
		}
		if err == nil {
			continue
		}
		err = s.explain(g.version, useSeal, err)
		for _, it := range g.items {
			it.sealErr = firstError(it.sealErr, err)
		}
	}
	if c.seals == sealAll {
		for i := range c.items {
			if it := &c.items[i]; it.err == nil {
				it.err = it.sealErr
			}
		}
	}
	return outcomes.end()
}

// explain prefers the reason that the metadata gives by now to what the token said: a
// version that was revoked while its request was being served has its object switched
// off, too.
func (s *Service) explain(v *versionEntry, u use, err error) error {
	if !errors.Is(err, ErrTokenRefused) {
		return err
	}
	snapshot := s.snapshot.Load()
	if now := snapshot.versionByUID(v.UID); now != nil {
		if refusal := snapshot.refuses(now, u); refusal != nil {
			return refusal
		}
	}
	return err
}

// versionGroup is the items of a request that use one key version.
type versionGroup[T any] struct {
	version *versionEntry
	items   []*T
}

// groupByVersion gathers items by the version that versionOf names, in order of first
// appearance; items for which it names none are left out.
func groupByVersion[T any](items []T, versionOf func(*T) *versionEntry) []versionGroup[T] {
	var groups []versionGroup[T]
	var byVersion map[*versionEntry]int // made with the second group: most requests have one
	last := -1
	for i := range items {
		v := versionOf(&items[i])
		switch {
		case v == nil:
			continue
		case last < 0:
			groups = append(groups, versionGroup[T]{v, make([]*T, 0, len(items)-i)})
			last = 0
		case groups[last].version != v:
			if byVersion == nil {
				byVersion = map[*versionEntry]int{groups[0].version: 0}
			}
			known := false
			if last, known = byVersion[v]; !known {
				groups = append(groups, versionGroup[T]{version: v})
				last = len(groups) - 1
				byVersion[v] = last
			}
		}
		groups[last].items = append(groups[last].items, &items[i])
	}
	return groups
}
