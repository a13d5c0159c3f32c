package kms

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/keyholt/keyholt/kms/envelope"
)

// profileCipher does the work of one protection profile on items of one key version:
// token and host together. Outcomes are per item; the returned error concerns all.
type profileCipher interface {
	open(ctx context.Context, v *versionEntry, items []*item) error
	seal(ctx context.Context, v *versionEntry, kind envelope.Kind, items []*item) error
}

// cipherOf returns the cipher of a profile.
func (s *Service) cipherOf(p Profile) profileCipher {
	if p == ProfileStrict {
		return strictCipher{s}
	}
	return derivedCipher{s}
}

// openItems opens the items that were resolved, one key version after the other.
func (s *Service) openItems(ctx context.Context, c *dataCall) error {
	groups := groupByVersion(c.items, func(it *item) *versionEntry {
		if it.err != nil {
			return nil
		}
		return it.opened
	})
	for _, g := range groups {
		err := s.cipherOf(g.version.profile).open(ctx, g.version, g.items)
		if err == nil {
			continue
		}
		if concernsAll(err) {
			return err
		}
		err = s.explain(g.version, useOpen, err)
		for _, it := range g.items {
			it.err = err
		}
	}
	return nil
}

// sealItems seals the items that were resolved, one key version after the other.
func (s *Service) sealItems(ctx context.Context, c *dataCall) error {
	groups := groupByVersion(c.items, func(it *item) *versionEntry {
		if !it.seals() {
			return nil
		}
		return it.sealed
	})
	for _, g := range groups {
		err := s.markUsed(ctx, g.version)
		if err == nil {
			err = s.cipherOf(g.version.profile).seal(ctx, g.version, c.kind, g.items)
		}
		if err == nil {
			continue
		}
		if concernsAll(err) {
			return err
		}
		err = s.explain(g.version, useSeal, err)
		for _, it := range g.items {
			it.sealErr = err
		}
	}
	if c.seals == sealAll {
		for i := range c.items {
			if it := &c.items[i]; it.err == nil {
				it.err = it.sealErr
			}
		}
	}
	return nil
}

// explain prefers the reason that the metadata gives by now to what the token said: a
// version that was revoked while its request was being served has its object switched
// off, too.
func (s *Service) explain(v *versionEntry, u use, err error) error {
	if !errors.Is(err, ErrTokenRefused) {
		return err
	}
	if now := s.snapshot.Load().versionByUID(v.UID); now != nil {
		if refusal := now.refuses(u); refusal != nil {
			return refusal
		}
	}
	return err
}

// versionGroup is the items of a call that use one key version.
type versionGroup struct {
	version *versionEntry
	items   []*item
}

// groupByVersion gathers items by the version that versionOf names, in order of first
// appearance; items for which it names none are left out.
func groupByVersion(items []item, versionOf func(*item) *versionEntry) []versionGroup {
	var groups []versionGroup
	var byVersion map[*versionEntry]int // made with the second group
	last := -1
	for i := range items {
		v := versionOf(&items[i])
		if v == nil {
			continue
		}
		if last < 0 || groups[last].version != v {
			known := false
			if last, known = byVersion[v]; !known {
				if len(groups) == 0 {
					groups = append(groups, versionGroup{v, make([]*item, 0, len(items)-i)})
				} else {
					groups = append(groups, versionGroup{version: v})
				}
				last = len(groups) - 1
				if byVersion == nil {
					byVersion = make(map[*versionEntry]int)
				}
				byVersion[v] = last
			}
		}
		groups[last].items = append(groups[last].items, &items[i])
	}
	return groups
}

// derivedCipher is the DERIVED profile: one token call derives the keys of all items;
// the host opens and seals with them.
type derivedCipher struct{ s *Service }

func (d derivedCipher) open(ctx context.Context, v *versionEntry, items []*item) error {
	mask, err := d.s.maskKey(ctx, v)
	if err != nil {
		return err
	}
	defer mask.Wipe()
	batch := make([]envelope.OpenItem, len(items))
	for i, it := range items {
		batch[i] = envelope.OpenItem{Blob: it.blob, Binding: *it.bound}
	}
	blocks, err := envelope.AppendOpenBlocks(make([]byte, 0, len(items)*envelope.DerivationSize), &mask, batch)
	if err != nil {
		return decryptionFailed().because(err)
	}
	defer clear(blocks)
	if err := d.derive(ctx, v, blocks); err != nil {
		return err
	}
	_, end := d.s.begin(ctx, PhaseHost)
	defer end()
	err = spread(len(items), func(from, to int) error {
		_, err := envelope.OpenItems(nil, blocks[from*envelope.DerivationSize:to*envelope.DerivationSize], batch[from:to])
		return err
	})
	if err != nil {
		return decryptionFailed().because(err)
	}
	for i, it := range items {
		if batch[i].Err != nil {
			it.err = decryptionFailed()
			continue
		}
		it.plaintext = batch[i].Plaintext
	}
	return nil
}

func (d derivedCipher) seal(ctx context.Context, v *versionEntry, kind envelope.Kind, items []*item) error {
	mask, err := d.s.maskKey(ctx, v)
	if err != nil {
		return err
	}
	defer mask.Wipe()
	batch := make([]envelope.SealItem, len(items))
	for i, it := range items {
		batch[i] = envelope.SealItem{
			Kind: kind, UID: envelope.UID(v.UID), Binding: *it.rebound, Plaintext: it.plaintext,
		}
	}
	blocks, err := envelope.AppendSealBlocks(make([]byte, 0, len(items)*envelope.DerivationSize), &mask, batch)
	if err != nil {
		return errorf(ErrLimitExceeded, "the plaintext cannot be encrypted: %v", err)
	}
	defer clear(blocks)
	if err := d.derive(ctx, v, blocks); err != nil {
		return err
	}
	_, end := d.s.begin(ctx, PhaseHost)
	defer end()
	err = spread(len(items), func(from, to int) error {
		_, err := envelope.SealItems(nil, blocks[from*envelope.DerivationSize:to*envelope.DerivationSize], batch[from:to])
		return err
	})
	if err != nil {
		return errorf(ErrLimitExceeded, "the plaintext cannot be encrypted: %v", err)
	}
	for i, it := range items {
		it.ciphertext = batch[i].Blob
	}
	return nil
}

// derive replaces the derivation blocks of a batch by the keys derived from them.
func (d derivedCipher) derive(ctx context.Context, v *versionEntry, blocks []byte) error {
	ctx, end := d.s.begin(ctx, PhaseCipher)
	defer end()
	if err := d.s.token.EncryptBlocks(ctx, v.UID, blocks, blocks); err != nil {
		return tokenError(err, "derive keys")
	}
	return nil
}

// spreadFrom is how many items make it worth while to use a second core.
const spreadFrom = 128

// spread runs work on parts of n items, on all cores if they are many.
func spread(n int, work func(from, to int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n/(spreadFrom/2))
	if workers < 2 {
		return work(0, n)
	}
	errs := make([]error, workers)
	var running sync.WaitGroup
	for w := range workers {
		running.Go(func() { errs[w] = work(w*n/workers, (w+1)*n/workers) })
	}
	running.Wait()
	return errors.Join(errs...)
}
