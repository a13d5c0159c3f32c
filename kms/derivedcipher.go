package kms

import (
	"context"
	"errors"
	"runtime"
	"sync"

	"github.com/keyholt/keyholt/kms/envelope"
)

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
