package hsmbench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// generatedKeys is how many keys are generated, and destroyed, to measure just that. They
// are few because on some tokens each takes a second, and wears out its memory.
const generatedKeys = 8

// gcmBatches are the items of one call of Seal or Open.
var gcmBatches = [...]int{1, 64}

// Config says how to measure.
type Config struct {
	// Duration of each figure; a tenth of it is spent before, as warm-up. More than 0.
	Duration time.Duration
	// Threads are the numbers of callers at the same time, each 1 or more. More than the
	// token has sessions wait for one another.
	Threads []int
	// Measured, if not nil, is called with each figure once it is known.
	Measured func(Figure)
}

// DefaultThreads are the numbers of callers that tell most about a token: one, two, and
// one for each of its sessions.
func DefaultThreads(sessions int) []int {
	threads := []int{1, min(2, sessions), sessions}
	slices.Sort(threads)
	return slices.Compact(threads)
}

// Run measures a token. It takes about 40 times the duration with three numbers of
// callers. The scratch keys are destroyed when it returns, also after an error or when
// ctx has ended.
//
// Errors: those of [hsm.Token], and ctx's. There is then no report.
func Run(ctx context.Context, token hsm.Token, c Config) (*Report, error) {
	if c.Duration <= 0 || len(c.Threads) == 0 || slices.Min(c.Threads) < 1 {
		return nil, fmt.Errorf("%w: want a duration and numbers of callers", hsm.ErrArgument)
	}
	left, err := leftovers(ctx, token)
	if err != nil {
		return nil, err
	}
	report := &Report{Leftovers: left}
	keys := newScratch(token)
	err = measureAll(ctx, token, keys, c, func(f Figure) {
		report.Figures = append(report.Figures, f)
		if c.Measured != nil {
			c.Measured(f)
		}
	})
	if err := errors.Join(err, keys.cleanUp(ctx)); err != nil {
		return nil, err
	}
	report.Token = Describe(token.Info())
	return report, nil
}

// measureAll measures every operation that the token has.
func measureAll(ctx context.Context, token hsm.Token, keys *scratch, c Config, add func(Figure)) error {
	operations, err := prepare(ctx, token, keys)
	if err != nil {
		return err
	}
	for _, op := range operations {
		for _, threads := range c.Threads {
			callers, err := closedLoop(ctx, threads, c.Duration, func() (call, error) { return op.prepare(ctx) })
			if err != nil {
				return fmt.Errorf("%s: %w", op.name, err)
			}
			add(figure(op.name, op.bytes, op.items, callers))
		}
	}
	return keyOperations(ctx, keys, add)
}

// prepare generates the keys and lists the operations that the token has.
func prepare(ctx context.Context, token hsm.Token, keys *scratch) ([]operation, error) {
	blocks, err := keys.generate(ctx, hsm.AES256Blocks)
	if err != nil {
		return nil, err
	}
	// A token that refuses the configured length is given less from then on: see that
	// before a length is chosen.
	longest := random(token.Info().MaxBlockBytes)
	if err := token.EncryptBlocks(ctx, blocks, longest, longest); err != nil {
		return nil, err
	}
	info := token.Info()
	var operations []operation
	for _, size := range blockSizes(info.MaxBlockBytes) {
		operations = append(operations, encryptBlocks(token, blocks, size))
	}
	if info.Supports(hsm.AES256GCM) {
		gcm, err := keys.generate(ctx, hsm.AES256GCM)
		if err != nil {
			return nil, err
		}
		for _, batch := range gcmBatches {
			operations = append(operations, seal(token, gcm, batch), open(token, gcm, batch))
		}
	}
	signing, err := prepareSigning(ctx, token, keys)
	if err != nil {
		return nil, err
	}
	return append(append(operations, signing...), randomNumbers(token)), nil
}

// prepareSigning generates the keys for signatures and tags that the token can make.
func prepareSigning(ctx context.Context, token hsm.Token, keys *scratch) ([]operation, error) {
	info := token.Info()
	var operations []operation
	for _, signing := range []struct {
		name   string
		spec   hsm.KeySpec
		scheme hsm.Scheme
	}{
		{OperationSignP256, hsm.ECDSAP256, hsm.ECDSA},
		{OperationSignEd25519, hsm.Ed25519, hsm.PureEd25519},
		{OperationSignRSA2048, hsm.RSA2048Sign, hsm.PKCS1SHA256},
	} {
		if !info.Signs(signing.spec, signing.scheme) {
			continue
		}
		key, err := keys.generate(ctx, signing.spec)
		if err != nil {
			return nil, err
		}
		operations = append(operations, sign(token, key, signing.name, signing.scheme))
	}
	if info.Supports(hsm.HMACSHA256) {
		key, err := keys.generate(ctx, hsm.HMACSHA256)
		if err != nil {
			return nil, err
		}
		operations = append(operations, mac(token, key))
	}
	return operations, nil
}

// keyOperations generates keys, one after another, and destroys them.
func keyOperations(ctx context.Context, keys *scratch, add func(Figure)) error {
	for _, op := range []struct {
		name string
		call call
	}{
		{OperationGenerateKey, func(ctx context.Context) error {
			_, err := keys.generate(ctx, hsm.AES256Blocks)
			return err
		}},
		{OperationDestroyKey, keys.destroyLast},
	} {
		c := newCaller()
		for range generatedKeys {
			if err := c.once(ctx, op.call); err != nil {
				return fmt.Errorf("%s: %w", op.name, err)
			}
		}
		add(figure(op.name, 0, 1, []*caller{c}))
	}
	return nil
}
