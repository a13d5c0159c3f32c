package kms

import (
	"context"
	"errors"
	"sync"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms/envelope"
)

// derivedCipher is the DERIVED profile: one token call derives the keys of all items;
// the host opens and seals with them.
type derivedCipher struct{ s *Service }

func (d derivedCipher) open(ctx context.Context, v *versionEntry, u use, items []*item) error {
	mask, err := d.s.maskKey(ctx, v)
	if err != nil {
		return err
	}
	defer mask.Wipe()
	work := d.s.scratch.takeOpens(len(items))
	defer d.s.scratch.keepOpens(work)
	batch, derived := work.batch, work.blocks.derived
	for i, it := range items {
		batch[i] = envelope.OpenItem{Blob: &it.blob, Binding: *it.bound}
	}
	blocks, err := envelope.AppendOpenBlocks(work.blocks.in, &mask, batch)
	if err != nil {
		return decryptionFailed().because(err)
	}
	if err := d.derive(ctx, v, u, derived, blocks); err != nil {
		return err
	}
	_, end := d.s.begin(ctx, PhaseHost)
	defer end()
	err = spread(d.s.gate.cores(), len(items), func(from, to int) error {
		_, err := envelope.OpenItems(nil, derived[from*envelope.DerivationSize:to*envelope.DerivationSize], batch[from:to])
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
	work := d.s.scratch.takeSeals(len(items))
	defer d.s.scratch.keepSeals(work)
	batch, derived := work.batch, work.blocks.derived
	for i, it := range items {
		batch[i] = envelope.SealItem{
			Kind: kind, UID: envelope.UID(v.UID), Binding: *it.rebound, Plaintext: it.plaintext,
		}
	}
	blocks, err := envelope.AppendSealBlocks(work.blocks.in, &mask, batch)
	if err != nil {
		return errorf(ErrLimitExceeded, "the plaintext cannot be encrypted: %v", err)
	}
	if err := d.derive(ctx, v, useSeal, derived, blocks); err != nil {
		return err
	}
	_, end := d.s.begin(ctx, PhaseHost)
	defer end()
	err = spread(d.s.gate.cores(), len(items), func(from, to int) error {
		_, err := envelope.SealItems(nil, derived[from*envelope.DerivationSize:to*envelope.DerivationSize], batch[from:to])
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

// derive writes the keys derived from the derivation blocks of a batch to dst. Where
// the token keeps requests in a queue, the version's state is looked at again when its
// turn has come.
func (d derivedCipher) derive(ctx context.Context, v *versionEntry, u use, dst, blocks []byte) error {
	ctx, end := d.s.begin(ctx, PhaseCipher)
	defer end()
	var err error
	if queue, ok := d.s.token.(queueingToken); ok {
		err = queue.EncryptBlocksIf(ctx, v.UID, dst, blocks, func() error {
			return d.s.snapshot.Load().admits(v, u)
		})
	} else {
		err = d.s.token.EncryptBlocks(ctx, v.UID, dst, blocks)
	}
	var refusal *Error
	if err == nil || errors.As(err, &refusal) {
		return err
	}
	return tokenError(err, "derive keys")
}

// queueingToken is a token in front of which requests may wait for each other.
type queueingToken interface {
	// EncryptBlocksIf is EncryptBlocks, but asks admit when the request is about to
	// reach the token, and fails with its error.
	EncryptBlocksIf(ctx context.Context, key hsm.UID, dst, src []byte, admit func() error) error
}

// admits says why a version that was found in an earlier snapshot cannot be used any more.
func (s *Snapshot) admits(v *versionEntry, u use) error {
	now := s.versionByUID(v.UID)
	if now == nil {
		return notAccessible()
	}
	return s.refuses(now, u)
}

// spreadFrom is how many items make it worth while to use a second core.
const spreadFrom = 128

// spread runs work on parts of n items, on as many cores as there are for it.
func spread(cores, n int, work func(from, to int) error) error {
	workers := min(cores, n/(spreadFrom/2))
	if workers < 2 {
		return work(0, n)
	}
	errs := make([]error, workers)
	part := func(w int) { errs[w] = work(w*n/workers, (w+1)*n/workers) }
	var running sync.WaitGroup
	for w := range workers - 1 {
		running.Go(func() { part(w) })
	}
	part(workers - 1)
	running.Wait()
	return errors.Join(errs...)
}
