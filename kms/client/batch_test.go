package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
	"github.com/keyholt/keyholt/kms/wire"
)

func drawBinding(t *rapid.T) kms.Binding {
	short := rapid.StringMatching("[a-c]{1,2}")
	return kms.Binding{
		Context: rapid.MapOfN(short, short, 0, 3).Draw(t, "context"),
		AAD:     rapid.SliceOfN(rapid.ByteRange(0, 2), 0, 2).Draw(t, "additional data"),
	}
}

func sameBinding(a, b kms.Binding) bool {
	return maps.Equal(a.Context, b.Context) && bytes.Equal(a.AAD, b.AAD)
}

func keyName(t testing.TB, id string) kms.KeyName {
	t.Helper()
	key, err := kms.ParseKeyName("namespaces/shop/keys/" + id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// What a caller gave comes back from the copy, also after the caller has changed it, and
// equal bindings have equal bytes.
func TestBindingIsCopied(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, other := drawBinding(t), drawBinding(t)
		want := kms.Binding{Context: maps.Clone(one.Context), AAD: bytes.Clone(one.AAD)}
		p, err := appendBinding(nil, one)
		if err != nil {
			t.Fatal(err)
		}
		q, err := appendBinding(nil, other)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(p, q) != sameBinding(one, other) {
			t.Errorf("%v is %x, %v is %x", one, p, other, q)
		}
		clear(one.Context)
		clear(one.AAD)
		if got := decodeBinding(p); !sameBinding(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Merging changes nothing of what each call asks for, and says once what most share.
func TestMerge(t *testing.T) {
	names := []kms.KeyName{keyName(t, "a"), keyName(t, "b"), keyName(t, "c")}
	rapid.Check(t, func(t *rapid.T) {
		var pool dataKeyCalls
		var calls []*dataKeyCall
		var bindings []kms.Binding
		for range rapid.IntRange(1, 20).Draw(t, "calls") {
			binding := drawBinding(t)
			if len(bindings) > 0 && rapid.Bool().Draw(t, "the same again") {
				binding = bindings[0]
			}
			c, err := pool.get(rapid.SampledFrom(names).Draw(t, "key"), []byte("input"), binding)
			if err != nil {
				t.Fatal(err)
			}
			calls, bindings = append(calls, c), append(bindings, binding)
		}
		m := merge(calls)
		withKey, withBinding := 0, 0
		for i, c := range calls {
			key, binding := m.key, m.binding
			if !m.items[i].Key.IsZero() {
				key = m.items[i].Key
				withKey++
			}
			if m.items[i].Binding != nil {
				binding = *m.items[i].Binding
				withBinding++
			}
			if key != c.key || !sameBinding(binding, bindings[i]) {
				t.Errorf("call %d of %v, %v became %v, %v", i, c.key, bindings[i], key, binding)
			}
		}
		for i := range calls {
			keys, same := 0, 0
			for j := range calls {
				if calls[j].key == calls[i].key {
					keys++
				}
				if sameBinding(bindings[i], bindings[j]) {
					same++
				}
			}
			if 2*keys > len(calls) && withKey != len(calls)-keys {
				t.Errorf("%d of %d have key %v, %d items carry one", keys, len(calls), calls[i].key, withKey)
			}
			if 2*same > len(calls) && withBinding != len(calls)-same {
				t.Errorf("%d of %d have binding %v, %d items carry one", same, len(calls), bindings[i], withBinding)
			}
		}
	})
}

// The estimate of a call's size bounds what it becomes on the wire.
func TestSizeBoundsTheWire(t *testing.T) {
	key := keyName(t, "orders-of-a-rather-long-name")
	long := make(map[string]string)
	for i := range envelope.MaxContextPairs {
		long[fmt.Sprintf("key-%03d", i)] = "value"
	}
	for name, binding := range map[string]kms.Binding{
		"none":       {},
		"short":      {Context: map[string]string{"a": "b"}},
		"many pairs": {Context: long, AAD: make([]byte, envelope.MaxAdditionalDataSize)},
	} {
		var pool dataKeyCalls
		c, err := pool.get(key, make([]byte, 92), binding)
		if err != nil {
			t.Fatal(err)
		}
		message := func(items int) int {
			r := &kms.UnwrapDataKeysRequest{Parent: key.Namespace()}
			for range items {
				r.Items = append(r.Items, kms.DataKeyItem{Wrapped: c.inputBytes(), Key: key, Binding: &binding})
			}
			return proto.Size(wire.EncodeUnwrapDataKeysRequest(r))
		}
		if one := message(11) - message(10); one > c.size() {
			t.Errorf("%s: %d bytes on the wire, estimated %d", name, one, c.size())
		}
	}
}

func TestMalformedBindingsAreRefusedBeforeTheyMeetOthers(t *testing.T) {
	many := make(map[string]string)
	for i := range envelope.MaxContextPairs + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for name, test := range map[string]struct {
		binding kms.Binding
		want    error
		field   string
	}{
		"reserved":   {kms.Binding{Context: map[string]string{"keyholt.x": ""}}, kms.ErrInvalidRequest, `encryption_context["keyholt.x"]`},
		"not UTF-8":  {kms.Binding{Context: map[string]string{"a": "\xff"}}, kms.ErrInvalidRequest, `encryption_context["a"]`},
		"many pairs": {kms.Binding{Context: many}, kms.ErrLimitExceeded, "encryption_context"},
		"long data":  {kms.Binding{AAD: make([]byte, envelope.MaxAdditionalDataSize+1)}, kms.ErrLimitExceeded, "additional_authenticated_data"},
	} {
		var pool dataKeyCalls
		_, err := pool.get(keyName(t, "orders"), nil, test.binding)
		var e *kms.Error
		if !errors.Is(err, test.want) || !errors.As(err, &e) || len(e.Violations) != 1 || e.Violations[0].Field != test.field {
			t.Errorf("%s: got %v (%+v)", name, err, e)
		}
	}
}

// answers is a service with fixed answers.
type answers struct {
	results []kms.DataKeyResult
	err     error
}

func (a answers) GenerateDataKeys(context.Context, kms.Principal, *kms.GenerateDataKeysRequest) ([]kms.DataKeyResult, error) {
	return a.results, a.err
}

func (a answers) WrapDataKeys(context.Context, kms.Principal, *kms.WrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	return a.results, a.err
}

func (a answers) UnwrapDataKeys(context.Context, kms.Principal, *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	return a.results, a.err
}

func TestAnswersThatBreakTheContract(t *testing.T) {
	var pool dataKeyCalls
	c, err := pool.get(keyName(t, "orders"), make([]byte, 92), kms.Binding{})
	if err != nil {
		t.Fatal(err)
	}
	parent, secret := c.key.Namespace(), make(kms.Secret, 32)
	for name, test := range map[string]struct {
		results []kms.DataKeyResult
		send    func(keyService) sender[*dataKeyCall]
	}{
		"no result":           {nil, func(s keyService) sender[*dataKeyCall] { return unwrapCalls(s, parent) }},
		"two results":         {make([]kms.DataKeyResult, 2), func(s keyService) sender[*dataKeyCall] { return wrapCalls(s, parent) }},
		"no data key":         {make([]kms.DataKeyResult, 1), func(s keyService) sender[*dataKeyCall] { return unwrapCalls(s, parent) }},
		"no wrapped key":      {make([]kms.DataKeyResult, 1), func(s keyService) sender[*dataKeyCall] { return wrapCalls(s, parent) }},
		"key without wrapped": {[]kms.DataKeyResult{{DataKey: secret}}, func(s keyService) sender[*dataKeyCall] { return generateCalls(s, 32) }},
		"key of another size": {[]kms.DataKeyResult{{DataKey: secret[:8], Wrapped: []byte("w")}}, func(s keyService) sender[*dataKeyCall] { return generateCalls(s, 32) }},
	} {
		c.outcome = kms.DataKeyResult{}
		err := test.send(answers{results: test.results})(t.Context(), []*dataKeyCall{c})
		if err == nil {
			err = c.outcome.Err
		}
		if !errors.Is(err, wire.ErrMalformedResponse) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	down := errors.New("down")
	if err := unwrapCalls(answers{err: down}, parent)(t.Context(), []*dataKeyCall{c}); !errors.Is(err, down) {
		t.Errorf("got %v", err)
	}
}

// A call that is used again holds nothing of its last caller's.
func TestCallsAreWiped(t *testing.T) {
	var pool dataKeyCalls
	c, err := pool.get(keyName(t, "orders"), []byte("a secret data key"), kms.Binding{})
	if err != nil {
		t.Fatal(err)
	}
	bytesOf := c.data
	c.outcome.DataKey = make(kms.Secret, 32)
	c.free()
	if !bytes.Equal(bytesOf, make([]byte, len(bytesOf))) || c.outcome.DataKey != nil || !c.key.IsZero() {
		t.Errorf("kept %q, %+v", bytesOf, c)
	}
}
