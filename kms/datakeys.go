package kms

import (
	"context"

	"github.com/keyholt/keyholt/kms/envelope"
)

// defaultDataKeySize is the size of a data key whose size was not asked for, in bytes.
const defaultDataKeySize = 32

// GenerateDataKeys makes data keys and wraps them under the primary version of a key.
func (s *Service) GenerateDataKeys(ctx context.Context, p Principal, r *GenerateDataKeysRequest) ([]DataKeyResult, error) {
	count, size := r.Count, r.Size
	if count == 0 {
		count = 1
	}
	if size == 0 {
		size = defaultDataKeySize
	}
	invalid := firstError(
		required("key", r.Key.IsZero()),
		checkCount("count", count),
		checkDataKeySize("size", size),
	)
	bound, err := bind(r.Binding)
	c := &dataCall{
		principal: p, action: ActionGenerateDataKey, parent: r.Key.Namespace(), context: r.Binding.Context,
		kind: envelope.KindWrappedKey, seals: sealAll, sealAction: ActionGenerateDataKey,
		invalid: firstError(invalid, err),
	}
	if c.invalid == nil {
		c.items = s.scratch.takeItems(count)
		defer s.release(c)
		for i := range c.items {
			c.items[i].under = r.Key
			c.items[i].rebound = &bound
		}
		c.fill = func(ctx context.Context) error { return s.drawDataKeys(ctx, c.items, size) }
	}
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	if err := c.commonError(); err != nil {
		c.discardAll()
		return nil, err
	}
	results := make([]DataKeyResult, len(c.items))
	for i := range c.items {
		it := &c.items[i]
		results[i] = DataKeyResult{DataKey: it.plaintext, Wrapped: it.ciphertext, Version: nameOf(it.sealed), Err: it.err}
		if r.WithoutPlaintext || it.err != nil {
			it.plaintext.Wipe()
			results[i].DataKey = nil
		}
	}
	return results, nil
}

// drawDataKeys fills the items with fresh keys: one C_GenerateRandom for all of them,
// XORed with the operating system's random bytes, so that neither source alone decides.
func (s *Service) drawDataKeys(ctx context.Context, items []item, size int) error {
	if !anySeals(items) {
		return nil
	}
	random := make([]byte, len(items)*size)
	if err := s.token.Random(ctx, random); err != nil {
		return tokenError(err, "draw random bytes")
	}
	envelope.MixRandom(random)
	for i := range items {
		items[i].plaintext = random[i*size : (i+1)*size : (i+1)*size]
	}
	return nil
}

func anySeals(items []item) bool {
	for i := range items {
		if items[i].seals() {
			return true
		}
	}
	return false
}

// WrapDataKeys wraps data keys of the caller under the primary versions of keys.
func (s *Service) WrapDataKeys(ctx context.Context, p Principal, r *WrapDataKeysRequest) ([]DataKeyResult, error) {
	c, err := s.newKeyBatch(p, ActionWrapDataKey, r.Parent, r.Binding, r.Items)
	defer s.release(c)
	c.seals, c.sealAction, c.borrowed = sealAll, ActionWrapDataKey, true
	c.invalid = err
	for i := range c.items {
		it, from := &c.items[i], &r.Items[i]
		it.under = orKey(from.Key, r.Key)
		it.rebound = it.bound
		it.plaintext = from.DataKey
		if it.err == nil {
			it.err = firstError(required("key", it.under.IsZero()), checkDataKeySize("data_key", len(from.DataKey)))
		}
	}
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	return c.results(func(it *item, result *DataKeyResult) {
		result.Wrapped, result.Version = it.ciphertext, nameOf(it.sealed)
	}), nil
}

// UnwrapDataKeys returns the data keys inside wrapped ones.
func (s *Service) UnwrapDataKeys(ctx context.Context, p Principal, r *UnwrapDataKeysRequest) ([]DataKeyResult, error) {
	c, err := s.newKeyBatch(p, ActionUnwrapDataKey, r.Parent, r.Binding, r.Items)
	defer s.release(c)
	c.opens, c.openAction, c.openUse = true, ActionUnwrapDataKey, useOpen
	c.invalid = err
	if r.RewrapToPrimary {
		c.seals, c.sealAction = sealOld, ActionRewrapDataKey
	}
	c.parseItems(r.Items, r.Key)
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	return c.results(func(it *item, result *DataKeyResult) {
		result.DataKey, result.Wrapped, result.Version = it.plaintext, it.ciphertext, nameOf(it.opened)
		result.RewrapErr = it.sealErr
		if it.ciphertext != nil {
			result.Target = nameOf(it.sealed)
		}
	}), nil
}

// RewrapDataKeys wraps data keys again under the primary version of their key.
func (s *Service) RewrapDataKeys(ctx context.Context, p Principal, r *RewrapDataKeysRequest) ([]DataKeyResult, error) {
	c, err := s.newKeyBatch(p, ActionRewrapDataKey, r.Parent, r.Binding, r.Items)
	defer s.release(c)
	c.opens, c.openAction, c.openUse = true, ActionRewrapDataKey, useRewrap
	c.seals, c.sealAction = sealAll, ActionRewrapDataKey
	c.invalid = err
	c.parseItems(r.Items, r.Key)
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	return c.results(func(it *item, result *DataKeyResult) {
		it.plaintext.Wipe()
		result.Wrapped, result.Version, result.Target = it.ciphertext, nameOf(it.opened), nameOf(it.sealed)
	}), nil
}

// newKeyBatch makes the call of a batch of data keys.
func (s *Service) newKeyBatch(p Principal, a Action, parent NamespaceName, b Binding, items []DataKeyItem) (*dataCall, error) {
	return s.newBatch(p, a, envelope.KindWrappedKey, parent, b, len(items), func(i int) (*Binding, error) {
		return items[i].Binding, items[i].Invalid
	})
}

// parseItems parses the wrapped keys of a batch.
func (c *dataCall) parseItems(items []DataKeyItem, expect KeyName) {
	for i := range c.items {
		it := &c.items[i]
		it.expect = orKey(items[i].Key, expect)
		it.rebound = it.bound
		if it.err == nil {
			it.parse(items[i].Wrapped)
		}
	}
}

// results makes the results of a batch; fill sets what a success has.
func (c *dataCall) results(fill func(*item, *DataKeyResult)) []DataKeyResult {
	results := make([]DataKeyResult, len(c.items))
	for i := range c.items {
		it := &c.items[i]
		if it.err != nil {
			c.discard(it)
			results[i] = DataKeyResult{Version: nameOf(it.opened), Err: it.err}
			continue
		}
		fill(it, &results[i])
	}
	return results
}
