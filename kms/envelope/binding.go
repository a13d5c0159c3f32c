package envelope

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// ReservedPrefix begins the context keys that only the service itself may bind.
const ReservedPrefix = "keyholt."

// Why an encryption context or additional authenticated data was refused. They arrive wrapped in a [FieldError].
var (
	ErrContextTooManyPairs  = errors.New("more than 64 pairs")
	ErrContextTooLarge      = errors.New("keys and values exceed 8 KiB")
	ErrContextKeyEmpty      = errors.New("an empty key")
	ErrContextNotUTF8       = errors.New("not valid UTF-8")
	ErrContextReserved      = errors.New(`keys that begin with "keyholt." are reserved for the service`)
	ErrContextNotReserved   = errors.New(`a service key must begin with "keyholt."`)
	ErrAdditionalDataTooBig = errors.New("exceeds 64 KiB")
)

// Field names that a [FieldError] uses; they are the request fields of the API.
const (
	FieldContext        = "encryption_context"
	FieldAdditionalData = "additional_authenticated_data"
)

// FieldError says which field of a request broke which rule.
type FieldError struct {
	// Field is FieldContext, FieldAdditionalData, or encryption_context["KEY"] with KEY quoted and cut to 64 bytes.
	Field string
	// Err is one of the ErrContext… and ErrAdditionalData… sentinels.
	Err error
}

// Error returns "field: rule".
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the sentinel.
func (e *FieldError) Unwrap() error { return e.Err }

// Binding is what a ciphertext is bound to besides its header: a checked encryption context and additional
// authenticated data, encoded once so that thousands of items can share the bytes. The zero Binding is the empty
// context with no additional data. It is immutable.
type Binding struct {
	// encoded is the canonical context and the length-prefixed additional data; nil stands for emptyEncoding.
	encoded []byte
}

// emptyEncoding is no pairs and no additional data: two zero counts.
var emptyEncoding = [8]byte{}

// NewBinding checks and encodes a caller's encryption context and additional authenticated data (opaque bytes, nil and
// empty are the same). Keys are not empty, do not begin with [ReservedPrefix]; keys and values are valid UTF-8 and are
// compared byte for byte, without normalisation. Limits: [MaxContextPairs], [MaxContextSize], [MaxAdditionalDataSize].
// Errors are of type *[FieldError].
func NewBinding(context map[string]string, additionalData []byte) (Binding, error) {
	return NewServiceBinding(context, nil, additionalData)
}

// NewServiceBinding is NewBinding for a part of the service that binds keys of its own beside the caller's, such as a
// gateway that binds its surface: every key of service must begin with [ReservedPrefix], no key of caller may. The
// limits hold for both together.
func NewServiceBinding(caller, service map[string]string, additionalData []byte) (Binding, error) {
	if len(caller)+len(service) > MaxContextPairs {
		return Binding{}, &FieldError{Field: FieldContext, Err: ErrContextTooManyPairs}
	}
	if len(additionalData) > MaxAdditionalDataSize {
		return Binding{}, &FieldError{Field: FieldAdditionalData, Err: ErrAdditionalDataTooBig}
	}
	pairs := make([]pair, 0, len(caller)+len(service))
	pairs = appendPairs(pairs, caller, false)
	pairs = appendPairs(pairs, service, true)
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.key, b.key) })

	size := 0
	for _, p := range pairs {
		size += len(p.key) + len(p.value)
	}
	if size > MaxContextSize {
		return Binding{}, &FieldError{Field: FieldContext, Err: ErrContextTooLarge}
	}
	for _, p := range pairs {
		if err := p.check(); err != nil {
			return Binding{}, &FieldError{Field: contextField(p.key), Err: err}
		}
	}

	encoded := make([]byte, 0, 4+8*len(pairs)+size+4+len(additionalData))
	encoded = binary.BigEndian.AppendUint32(encoded, uint32(len(pairs)))
	for _, p := range pairs {
		encoded = appendField(encoded, p.key)
		encoded = appendField(encoded, p.value)
	}
	return Binding{encoded: appendField(encoded, additionalData)}, nil
}

// AppendAAD appends the additional authenticated data of a blob with header h:
//
//	header (20) | number of pairs | for each pair, by ascending key bytes: len(key) key len(value) value |
//	len(additional data) additional data
//
// All counts and lengths are 32-bit big endian. The encoding is injective: different headers, contexts or additional
// data never give the same bytes, because each part is of fixed length or preceded by its length.
func (b Binding) AppendAAD(dst []byte, h Header) []byte {
	dst = append(dst, h[:]...)
	return append(dst, b.bytes()...)
}

// AADSize returns the length of what AppendAAD appends, in bytes.
func (b Binding) AADSize() int { return HeaderSize + len(b.bytes()) }

func (b Binding) bytes() []byte {
	if b.encoded == nil {
		return emptyEncoding[:]
	}
	return b.encoded
}

// sameBytes reports whether two bindings share one encoding. It may miss equal ones; that costs time only.
func (b Binding) sameBytes(c Binding) bool {
	x, y := b.bytes(), c.bytes()
	return len(x) == len(y) && &x[0] == &y[0]
}

// pair is one entry of an encryption context; service tells who bound it.
type pair struct {
	key, value string
	service    bool
}

func appendPairs(dst []pair, context map[string]string, service bool) []pair {
	for k, v := range context {
		dst = append(dst, pair{key: k, value: v, service: service})
	}
	return dst
}

func (p pair) check() error {
	reserved := strings.HasPrefix(p.key, ReservedPrefix)
	switch {
	case p.key == "":
		return ErrContextKeyEmpty
	case !utf8.ValidString(p.key), !utf8.ValidString(p.value):
		return ErrContextNotUTF8
	case reserved && !p.service:
		return ErrContextReserved
	case !reserved && p.service:
		return ErrContextNotReserved
	}
	return nil
}

func contextField(key string) string {
	const shown = 64
	if len(key) > shown {
		key = key[:shown]
	}
	return fmt.Sprintf("%s[%q]", FieldContext, key)
}

func appendField[T string | []byte](dst []byte, field T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(field)))
	return append(dst, field...)
}
