package client

import (
	"bytes"
	"context"
	"fmt"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
	"github.com/keyholt/keyholt/kms/wire"
)

// keyService is what [DataKeys] needs of the service.
type keyService interface {
	dataKeys
	WrapDataKeys(context.Context, kms.Principal, *kms.WrapDataKeysRequest) ([]kms.DataKeyResult, error)
}

// The senders of [queue]: one for each operation.

// wrapCalls returns the sender of calls whose inputs are data keys of a namespace's keys.
func wrapCalls(service keyService, parent kms.NamespaceName) sender[*dataKeyCall] {
	return func(ctx context.Context, calls []*dataKeyCall) error {
		m := merge(calls)
		for i, c := range calls {
			m.items[i].DataKey = c.inputBytes()
		}
		results, err := service.WrapDataKeys(ctx, kms.Principal{}, &kms.WrapDataKeysRequest{
			Parent: parent, Key: m.key, Items: m.items, Binding: m.binding,
		})
		return settle(calls, results, err, resultWrapped)
	}
}

// unwrapCalls returns the sender of calls whose inputs are wrapped keys of a namespace.
func unwrapCalls(service keyService, parent kms.NamespaceName) sender[*dataKeyCall] {
	return func(ctx context.Context, calls []*dataKeyCall) error {
		m := merge(calls)
		for i, c := range calls {
			m.items[i].Wrapped = c.inputBytes()
		}
		results, err := service.UnwrapDataKeys(ctx, kms.Principal{}, &kms.UnwrapDataKeysRequest{
			Parent: parent, Key: m.key, Items: m.items, Binding: m.binding,
		})
		return settle(calls, results, err, resultDataKey)
	}
}

// generateCalls returns the sender of calls for new data keys of a size in bytes, all
// under one key and with one binding.
func generateCalls(service keyService, size int) sender[*dataKeyCall] {
	return func(ctx context.Context, calls []*dataKeyCall) error {
		results, err := service.GenerateDataKeys(ctx, kms.Principal{}, &kms.GenerateDataKeysRequest{
			Key: calls[0].key, Count: len(calls), Size: size, Binding: decodeBinding(calls[0].binding()),
		})
		return settle(calls, results, err, resultDataKey|resultWrapped)
	}
}

// merged is what the calls of one request have in common, and their items without the
// input.
type merged struct {
	key     kms.KeyName
	binding kms.Binding
	items   []kms.DataKeyItem
}

// merge gives the request the key and the binding that most calls have, if more than half
// of them have the same, so that their items can do without.
func merge(calls []*dataKeyCall) merged {
	key := majority(calls, func(a, b *dataKeyCall) bool { return a.key == b.key }).key
	binding := majority(calls, func(a, b *dataKeyCall) bool { return bytes.Equal(a.binding(), b.binding()) }).binding()
	m := merged{key: key, binding: decodeBinding(binding), items: make([]kms.DataKeyItem, len(calls))}
	for i, c := range calls {
		if c.key != key {
			m.items[i].Key = c.key
		}
		if !bytes.Equal(c.binding(), binding) {
			own := decodeBinding(c.binding())
			m.items[i].Binding = &own
		}
	}
	return m
}

// majority returns a call like more than half of all, if there is one, else any (the
// voting algorithm of Boyer and Moore, one pass).
func majority[C comparable](calls []C, same func(a, b C) bool) C {
	candidate, votes := calls[0], 0
	for _, c := range calls {
		switch {
		case votes == 0:
			candidate, votes = c, 1
		case c == candidate || same(c, candidate):
			votes++
		default:
			votes--
		}
	}
	return candidate
}

// resultPart names what a successful result must have.
type resultPart uint8

const (
	resultDataKey resultPart = 1 << iota
	resultWrapped
)

// settle gives calls their results. It refuses answers that break the contract: an empty data
// key that passed for a real one would be worse than any error.
func settle(calls []*dataKeyCall, results []kms.DataKeyResult, err error, parts resultPart) error {
	if err != nil {
		return err
	}
	if len(results) != len(calls) {
		return fmt.Errorf("%w: %d results for %d items", wire.ErrMalformedResponse, len(results), len(calls))
	}
	for i, c := range calls {
		r := &results[i]
		noKey := parts&resultDataKey != 0 && len(r.DataKey) < envelope.DataKeySizeMin
		noBlob := parts&resultWrapped != 0 && len(r.Wrapped) == 0
		if r.Err == nil && (noKey || noBlob) {
			*r = kms.DataKeyResult{Err: fmt.Errorf("%w: a result without a key", wire.ErrMalformedResponse)}
		}
		c.outcome = *r
	}
	return nil
}
