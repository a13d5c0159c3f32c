package wire

import (
	"fmt"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// A batch may have thousands of items, and a service answers a million of them each
// second: nothing here allocates per item unless the item has its own binding or is
// malformed, and then once.

// checkCount bounds a batch before anything is allocated for its items.
func (d *decoder) checkCount(n int) error {
	if n > kms.MaxItems {
		return tooManyItems(n)
	}
	if n == 0 {
		d.refuse("items", "at least one is required")
	}
	return nil
}

func tooManyItems(n int) *kms.Error { return tooMany("items", n) }

func tooMany(field string, n int) *kms.Error {
	description := fmt.Sprintf("%d items, and %d is the limit", n, kms.MaxItems)
	return &kms.Error{
		Sentinel:   kms.ErrLimitExceeded,
		Message:    field + ": " + description,
		Violations: []kms.Violation{{Field: field, Description: description}},
	}
}

// itemDecoder reads what all kinds of items have.
type itemDecoder struct {
	total    int
	text     string      // the key name read last, which most often is the next one too
	key      kms.KeyName // what it means
	bindings []kms.Binding
}

// itemFields are the fields that all kinds of items have, to be set.
type itemFields struct {
	key     *kms.KeyName
	binding **kms.Binding
	invalid *error
}

func (d *itemDecoder) decode(item itemFields, i int, key string, binding *kmsv1.Binding) {
	if key != "" {
		if key != d.text {
			name, err := kms.ParseKeyName(key)
			if err != nil {
				*item.invalid = kms.Invalid(kms.Violation{
					Field:       fmt.Sprintf("items[%d].key", i),
					Description: err.Error(),
				})
				return
			}
			d.text, d.key = key, name
		}
		*item.key = d.key
	}
	if binding != nil {
		if d.bindings == nil {
			// Never grown, so that pointers into it stay good.
			d.bindings = make([]kms.Binding, 0, d.total-i)
		}
		d.bindings = append(d.bindings, requestBinding(binding))
		*item.binding = &d.bindings[len(d.bindings)-1]
	}
}

// itemEncoder writes what all kinds of items have.
type itemEncoder struct {
	total    int
	key      kms.KeyName // the key name written last
	text     string      // its text
	bindings []kmsv1.Binding
}

func (e *itemEncoder) name(key kms.KeyName) string {
	if key != e.key {
		e.key, e.text = key, encodeName(key)
	}
	return e.text
}

func (e *itemEncoder) binding(i int, b *kms.Binding) *kmsv1.Binding {
	if b == nil {
		return nil
	}
	if e.bindings == nil {
		e.bindings = make([]kmsv1.Binding, e.total)
	}
	m := &e.bindings[i]
	m.EncryptionContext, m.AdditionalAuthenticatedData = b.Context, b.AAD
	return m
}

// slab makes n messages in one allocation, and the list of pointers that a message wants.
func slab[M any](n int) []*M {
	messages := make([]M, n)
	pointers := make([]*M, n)
	for i := range messages {
		pointers[i] = &messages[i]
	}
	return pointers
}
