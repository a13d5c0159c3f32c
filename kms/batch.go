package kms

import (
	"errors"

	"github.com/keyholt/keyholt/kms/envelope"
)

// newBatch makes the call of a batch of n items; own returns what item i says of itself:
// its own binding, and what was found wrong with it before. The error is what is wrong
// with the request as a whole; then the call has no items.
func (s *Service) newBatch(
	p Principal, a Action, kind envelope.Kind, parent NamespaceName, b Binding, n int,
	own func(i int) (*Binding, error),
) (*dataCall, error) {
	c := &dataCall{principal: p, action: a, parent: parent, context: b.Context, kind: kind}
	bound, err := bind(b)
	if err := firstError(required("parent", parent.IsZero()), checkCount("items", n), err); err != nil {
		return c, err
	}
	c.items = s.scratch.takeItems(n)
	for i := range c.items {
		it := &c.items[i]
		it.bound = &bound
		binding, err := own(i)
		it.err = err
		if binding == nil || err != nil {
			continue
		}
		it.context = binding.Context
		if it.context == nil {
			it.context = map[string]string{}
		}
		ownBound, err := bind(*binding)
		it.bound, it.err = &ownBound, err
	}
	return c, nil
}

// release gives back the memory of a call whose results were taken out.
func (s *Service) release(c *dataCall) {
	s.scratch.keepItems(c.items)
	c.items = nil
}

// commonError is the error of a call all of whose items failed alike.
func (c *dataCall) commonError() error {
	for i := range c.items {
		if c.items[i].err == nil || !sameOutcome(c.items[i].err, c.items[0].err) {
			return nil
		}
	}
	return c.items[0].err
}

// parse takes the blob to open apart.
func (it *item) parse(p []byte) {
	if err := it.blob.Parse(p); err != nil {
		it.err = errorf(ErrMalformedCiphertext, "%v", err)
	}
}

// bind checks and encodes what ciphertexts are bound to.
func bind(b Binding) (envelope.Binding, error) {
	bound, err := envelope.NewBinding(b.Context, b.AAD)
	if err == nil {
		return bound, nil
	}
	var field *envelope.FieldError
	if !errors.As(err, &field) {
		return bound, Invalid(Violation{"encryption_context", err.Error()})
	}
	if errors.Is(err, envelope.ErrContextTooManyPairs) || errors.Is(err, envelope.ErrContextTooLarge) ||
		errors.Is(err, envelope.ErrAdditionalDataTooBig) {
		return bound, tooMuch(field.Field, "%v", field.Err)
	}
	return bound, Invalid(Violation{field.Field, field.Err.Error()})
}

func nameOf(v *versionEntry) VersionName {
	if v == nil {
		return VersionName{}
	}
	return v.Name
}

func orKey(key, otherwise KeyName) KeyName {
	if key.IsZero() {
		return otherwise
	}
	return key
}
