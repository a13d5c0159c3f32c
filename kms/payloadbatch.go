package kms

import (
	"context"

	"github.com/keyholt/keyholt/kms/envelope"
)

// BatchEncrypt encrypts many small payloads under the primary versions of keys.
func (s *Service) BatchEncrypt(ctx context.Context, p Principal, r *BatchEncryptRequest) ([]PayloadResult, error) {
	c, err := s.newPayloadBatch(p, ActionBatchEncrypt, r.Parent, r.Binding, r.Items)
	defer s.release(c)
	c.seals, c.sealAction, c.borrowed = sealAll, ActionBatchEncrypt, true
	total := 0
	for i := range c.items {
		it, from := &c.items[i], &r.Items[i]
		it.under = orKey(from.Key, r.Key)
		it.rebound = it.bound
		it.plaintext = from.Plaintext
		if it.err == nil {
			it.err = firstError(required("key", it.under.IsZero()), checkPlaintext(from.Plaintext))
		}
		total += len(from.Plaintext)
	}
	c.invalid = firstError(err, checkBatchPlaintext(total))
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	return c.payloads(func(it *item, result *PayloadResult) {
		result.Ciphertext, result.Version = it.ciphertext, nameOf(it.sealed)
	}), nil
}

// BatchDecrypt returns the plaintexts of what Encrypt and BatchEncrypt made.
func (s *Service) BatchDecrypt(ctx context.Context, p Principal, r *BatchDecryptRequest) ([]PayloadResult, error) {
	c, err := s.newPayloadBatch(p, ActionBatchDecrypt, r.Parent, r.Binding, r.Items)
	defer s.release(c)
	c.opens, c.openAction, c.openUse = true, ActionBatchDecrypt, useOpen
	total := 0
	for i := range c.items {
		it := &c.items[i]
		it.expect = orKey(r.Items[i].Key, r.Key)
		if it.err != nil {
			continue
		}
		if it.parse(r.Items[i].Ciphertext); it.err == nil {
			total += it.blob.PlaintextSize()
		}
	}
	c.invalid = firstError(err, checkBatchPlaintext(total))
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	return c.payloads(func(it *item, result *PayloadResult) {
		result.Plaintext, result.Version = it.plaintext, nameOf(it.opened)
	}), nil
}

func (s *Service) newPayloadBatch(p Principal, a Action, parent NamespaceName, b Binding, items []PayloadItem) (*dataCall, error) {
	return s.newBatch(p, a, envelope.KindData, parent, b, len(items), func(i int) (*Binding, error) {
		return items[i].Binding, items[i].Invalid
	})
}

// payloads makes the results of a batch; fill sets what a success has.
func (c *dataCall) payloads(fill func(*item, *PayloadResult)) []PayloadResult {
	results := make([]PayloadResult, len(c.items))
	for i := range c.items {
		it := &c.items[i]
		if it.err != nil {
			c.discard(it)
			results[i] = PayloadResult{Version: nameOf(it.opened), Err: it.err}
			continue
		}
		fill(it, &results[i])
	}
	return results
}
