package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// dataKeyCall is one caller's call for a data key on its way through a [queue]. It holds
// copies of all that the caller gave: a caller that leaves early may change its memory at once.
type dataKeyCall struct {
	link[*dataKeyCall]
	pool *dataKeyCalls

	key kms.KeyName
	// data is the input (a data key or a wrapped one; none for Generate) followed by the
	// binding as [appendBinding] encodes it.
	data  []byte
	input int // length of the input, in bytes

	outcome kms.DataKeyResult
}

// callOverhead is more than an item needs on the wire beside its bytes and its key.
const callOverhead = 64

func (c *dataKeyCall) size() int {
	return callOverhead + len(c.data) + len(c.key.ID()) + len(c.key.Namespace().ID())
}

func (c *dataKeyCall) inputBytes() []byte { return c.data[:c.input:c.input] }

func (c *dataKeyCall) binding() []byte { return c.data[c.input:] }

func (c *dataKeyCall) fail(err error) { c.outcome = kms.DataKeyResult{Err: err} }

func (c *dataKeyCall) discard() {
	c.outcome.DataKey.Wipe()
	c.free()
}

// free gives back a call that nobody uses any more, and wipes its input.
func (c *dataKeyCall) free() {
	clear(c.data)
	*c = dataKeyCall{link: link[*dataKeyCall]{ready: c.ready}, pool: c.pool, data: c.data[:0]}
	c.pool.pool.Put(c)
}

// dataKeyCalls keeps calls for the next caller.
type dataKeyCalls struct{ pool sync.Pool }

// get makes a call of copies of what the caller gave. The error says what is wrong with
// the binding: a malformed one would fail the whole RPC, and with it other callers.
func (p *dataKeyCalls) get(key kms.KeyName, input []byte, b kms.Binding) (*dataKeyCall, error) {
	c, ok := p.pool.Get().(*dataKeyCall)
	if !ok {
		c = &dataKeyCall{link: newLink[*dataKeyCall](), pool: p}
	}
	c.key, c.input = key, len(input)
	var err error
	if c.data, err = appendBinding(append(c.data[:0], input...), b); err != nil {
		c.free()
		return nil, err
	}
	return c, nil
}

// appendBinding appends a checked copy of the binding: nothing for an empty one, else
// what package envelope authenticates, so that equal bindings have equal bytes. Errors
// are those that the service answers with.
func appendBinding(dst []byte, b kms.Binding) ([]byte, error) {
	if len(b.Context) == 0 && len(b.AAD) == 0 {
		return dst, nil
	}
	bound, err := envelope.NewBinding(b.Context, b.AAD)
	if err != nil {
		return dst, invalidBinding(err)
	}
	return bound.AppendAAD(dst, envelope.Header{}), nil
}

func invalidBinding(err error) error {
	field := kms.Violation{Field: envelope.FieldContext, Description: err.Error()}
	var fieldError *envelope.FieldError
	if errors.As(err, &fieldError) {
		field = kms.Violation{Field: fieldError.Field, Description: fieldError.Err.Error()}
	}
	invalid := kms.Invalid(field)
	if errors.Is(err, envelope.ErrContextTooManyPairs) || errors.Is(err, envelope.ErrContextTooLarge) ||
		errors.Is(err, envelope.ErrAdditionalDataTooBig) {
		invalid.Sentinel = kms.ErrLimitExceeded
	}
	return invalid
}

// decodeBinding makes a binding of what appendBinding has appended. Its additional data
// is a view into p.
func decodeBinding(p []byte) kms.Binding {
	if len(p) == 0 {
		return kms.Binding{}
	}
	// One string for all keys and values: they are parts of it.
	text := string(p[envelope.HeaderSize:])
	at := 0
	count := func() int {
		n := binary.BigEndian.Uint32([]byte(text[at : at+4]))
		at += 4
		return int(n)
	}
	field := func() string {
		n := count()
		at += n
		return text[at-n : at]
	}
	b := kms.Binding{}
	if pairs := count(); pairs > 0 {
		b.Context = make(map[string]string, pairs)
		for range pairs {
			key := field()
			b.Context[key] = field()
		}
	}
	if n := count(); n > 0 {
		b.AAD = p[len(p)-n : len(p) : len(p)]
	}
	return b
}

// checkWrapped refuses what is no wrapped key and would crowd out others.
func checkWrapped(wrapped []byte) error {
	if len(wrapped) > envelope.MaxBlobSize {
		return &kms.Error{
			Sentinel: kms.ErrMalformedCiphertext,
			Message:  fmt.Sprintf("malformed ciphertext: %d bytes are more than any has", len(wrapped)),
		}
	}
	return nil
}

func checkDataKeySize(field string, n int) error {
	if n < envelope.DataKeySizeMin || n > envelope.DataKeySizeMax {
		return kms.Invalid(kms.Violation{Field: field, Description: fmt.Sprintf(
			"a data key has %d to %d bytes, not %d", envelope.DataKeySizeMin, envelope.DataKeySizeMax, n)})
	}
	return nil
}
