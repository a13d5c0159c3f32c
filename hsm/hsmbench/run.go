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
	// Callers are the numbers of callers at the same time, each 1 or more. More than the
	// token has sessions wait for one another.
	Callers []int
	// Operations are those that are measured; all that the token has if it is empty.
	Operations []string
	// Measured, if not nil, is called with each figure once it is known.
	Measured func(Figure)
}

// DefaultCallers are the numbers of callers that tell most about a token: one, two, and
// one for each of its sessions.
func DefaultCallers(sessions int) []int {
	list := []int{1, min(2, sessions), sessions}
	slices.Sort(list)
	return slices.Compact(list)
}

// Run measures a token. It takes about 40 times the duration with three numbers of
// callers. The scratch keys are destroyed when it returns, also after an error or when
// ctx has ended.
//
// Errors: those of [hsm.Token], among them hsm.ErrUnsupported for an operation that the token
// has not, and ctx's. There is then no report.
func Run(ctx context.Context, token hsm.Token, c Config) (*Report, error) {
	if c.Duration <= 0 || len(c.Callers) == 0 || slices.Min(c.Callers) < 1 {
		return nil, fmt.Errorf("%w: want a duration and numbers of callers", hsm.ErrArgument)
	}
	for _, name := range c.Operations {
		if !slices.Contains(Operations(), name) {
			return nil, fmt.Errorf("%w: no operation is named %q", hsm.ErrArgument, name)
		}
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
	operations, err := prepare(ctx, token, keys, c)
	if err != nil {
		return err
	}
	if err := c.lacks(operations); err != nil {
		return err
	}
	for _, op := range operations {
		for _, n := range c.Callers {
			callers, err := closedLoop(ctx, n, c.Duration, func() (call, error) { return op.prepare(ctx) })
			if err != nil {
				return fmt.Errorf("%s: %w", op.name, err)
			}
			add(figure(op.name, op.bytes, op.items, callers))
		}
	}
	return keyOperations(ctx, keys, c, add)
}

// wants reports whether one of the operations is to be measured.
func (c *Config) wants(names ...string) bool {
	return len(c.Operations) == 0 ||
		slices.ContainsFunc(names, func(name string) bool { return slices.Contains(c.Operations, name) })
}

// lacks names an operation that was asked for and cannot be measured.
func (c *Config) lacks(operations []operation) error {
	for _, name := range c.Operations {
		if name == OperationGenerateKey || name == OperationDestroyKey {
			continue
		}
		if !slices.ContainsFunc(operations, func(op operation) bool { return op.name == name }) {
			return fmt.Errorf("%w: %s", hsm.ErrUnsupported, name)
		}
	}
	return nil
}

// prepare generates the keys and lists the operations that are wanted and that the token has.
func prepare(ctx context.Context, token hsm.Token, keys *scratch, c Config) (operations []operation, err error) {
	for _, group := range []func(context.Context, hsm.Token, *scratch, Config) ([]operation, error){
		prepareBlocks, prepareGCM, prepareSigning,
	} {
		some, err := group(ctx, token, keys, c)
		if err != nil {
			return nil, err
		}
		operations = append(operations, some...)
	}
	if c.wants(OperationRandom) {
		operations = append(operations, randomNumbers(token))
	}
	return operations, nil
}

func prepareBlocks(ctx context.Context, token hsm.Token, keys *scratch, c Config) (operations []operation, err error) {
	if !c.wants(OperationEncryptBlocks) {
		return nil, nil
	}
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
	for _, size := range blockSizes(token.Info().MaxBlockBytes) {
		operations = append(operations, encryptBlocks(token, blocks, size))
	}
	return operations, nil
}

func prepareGCM(ctx context.Context, token hsm.Token, keys *scratch, c Config) (operations []operation, err error) {
	info := token.Info()
	if !info.Supports(hsm.AES256GCM) || !c.wants(OperationSeal, OperationOpen) {
		return nil, nil
	}
	gcm, err := keys.generate(ctx, hsm.AES256GCM)
	if err != nil {
		return nil, err
	}
	for _, batch := range gcmBatches {
		if c.wants(OperationSeal) {
			operations = append(operations, seal(token, gcm, batch))
		}
		if c.wants(OperationOpen) {
			operations = append(operations, open(token, gcm, batch))
		}
	}
	return operations, nil
}

// prepareSigning generates the keys for signatures and tags that the token can make.
func prepareSigning(ctx context.Context, token hsm.Token, keys *scratch, c Config) (operations []operation, err error) {
	info := token.Info()
	for _, signing := range []struct {
		name   string
		spec   hsm.KeySpec
		scheme hsm.Scheme
	}{
		{OperationSignP256, hsm.ECDSAP256, hsm.ECDSA},
		{OperationSignEd25519, hsm.Ed25519, hsm.PureEd25519},
		{OperationSignRSA2048, hsm.RSA2048Sign, hsm.PKCS1SHA256},
	} {
		if !info.Signs(signing.spec, signing.scheme) || !c.wants(signing.name) {
			continue
		}
		key, err := keys.generate(ctx, signing.spec)
		if err != nil {
			return nil, err
		}
		operations = append(operations, sign(token, key, signing.name, signing.scheme))
	}
	if info.Supports(hsm.HMACSHA256) && c.wants(OperationMAC) {
		key, err := keys.generate(ctx, hsm.HMACSHA256)
		if err != nil {
			return nil, err
		}
		operations = append(operations, mac(token, key))
	}
	return operations, nil
}

// keyOperations generates keys, one after another, and destroys them.
func keyOperations(ctx context.Context, keys *scratch, c Config, add func(Figure)) error {
	if !c.wants(OperationGenerateKey, OperationDestroyKey) {
		return nil
	}
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
		one := newCaller()
		for range generatedKeys {
			if err := one.once(ctx, op.call); err != nil {
				return fmt.Errorf("%s: %w", op.name, err)
			}
		}
		if c.wants(op.name) {
			add(figure(op.name, 0, 1, []*caller{one}))
		}
	}
	return nil
}
