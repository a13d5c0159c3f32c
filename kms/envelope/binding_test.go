package envelope_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

func TestBindingRefuses(t *testing.T) {
	many := make(map[string]string)
	for i := range envelope.MaxContextPairs + 1 {
		many[fmt.Sprint(i)] = ""
	}
	long := strings.Repeat("k", 100)
	for name, c := range map[string]struct {
		caller, service map[string]string
		aad             []byte
		field           string
		err             error
	}{
		"65 pairs": {
			caller: many,
			field:  "encryption_context", err: envelope.ErrContextTooManyPairs,
		},
		"8 KiB and 1": {
			caller: map[string]string{"k": strings.Repeat("v", 8192)},
			field:  "encryption_context", err: envelope.ErrContextTooLarge,
		},
		"empty key": {
			caller: map[string]string{"": "v"},
			field:  `encryption_context[""]`, err: envelope.ErrContextKeyEmpty,
		},
		"key not UTF-8": {
			caller: map[string]string{"\xff": "v"},
			field:  `encryption_context["\xff"]`, err: envelope.ErrContextNotUTF8,
		},
		"value no UTF-8": {
			caller: map[string]string{"k": "\xc3"},
			field:  `encryption_context["k"]`, err: envelope.ErrContextNotUTF8,
		},
		"long key shown": {
			caller: map[string]string{long: "\xc3"},
			field:  `encryption_context["` + long[:64] + `"]`, err: envelope.ErrContextNotUTF8,
		},
		"reserved": {
			caller: map[string]string{"keyholt.x": "v"},
			field:  `encryption_context["keyholt.x"]`, err: envelope.ErrContextReserved,
		},
		"only reserved": {
			caller: map[string]string{"keyholt.": ""},
			field:  `encryption_context["keyholt."]`, err: envelope.ErrContextReserved,
		},
		"reserved in both": {
			caller:  map[string]string{"keyholt.x": "v"},
			service: map[string]string{"keyholt.x": "v"},
			field:   `encryption_context["keyholt.x"]`, err: envelope.ErrContextReserved,
		},
		"service key unreserved": {
			service: map[string]string{"surface": "v"},
			field:   `encryption_context["surface"]`, err: envelope.ErrContextNotReserved,
		},
		"data of 64 KiB and 1": {
			aad:   make([]byte, 65537),
			field: "additional_authenticated_data", err: envelope.ErrAdditionalDataTooBig,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := envelope.NewServiceBinding(c.caller, c.service, c.aad)
			var field *envelope.FieldError
			if !errors.As(err, &field) || !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v in a FieldError", err, c.err)
			}
			if field.Field != c.field || field.Error() != c.field+": "+c.err.Error() {
				t.Errorf("field %q, text %q", field.Field, field.Error())
			}
		})
	}
}

// With several things wrong the answer must not depend on Go's map order.
func TestBindingErrorIsDeterministic(t *testing.T) {
	context := map[string]string{"b": "\xff", "a": "\xff", "keyholt.z": "", "c": "\xff"}
	for range 50 {
		_, err := envelope.NewBinding(context, nil)
		var field *envelope.FieldError
		if !errors.As(err, &field) || field.Field != `encryption_context["a"]` {
			t.Fatalf("got %v", err)
		}
	}
}

func TestBindingAcceptsTheLimits(t *testing.T) {
	pairs := make(map[string]string)
	for i := range envelope.MaxContextPairs {
		pairs[fmt.Sprintf("%02d", i)] = strings.Repeat("v", envelope.MaxContextSize/envelope.MaxContextPairs-2)
	}
	b, err := envelope.NewBinding(pairs, make([]byte, envelope.MaxAdditionalDataSize))
	if err != nil {
		t.Fatal(err)
	}
	want := envelope.HeaderSize + 4 + 64*8 + 8192 + 4 + 65536
	if got := len(b.AppendAAD(nil, envelope.Header{})); got != want || b.AADSize() != want {
		t.Errorf("AAD of %d bytes, AADSize %d, want %d", got, b.AADSize(), want)
	}
}

func TestZeroBindingIsTheEmptyOne(t *testing.T) {
	var zero envelope.Binding
	for _, b := range []envelope.Binding{
		mustBinding(t, nil, nil),
		mustBinding(t, map[string]string{}, []byte{}),
	} {
		requireEqual(t, "AAD", b.AppendAAD(nil, envelope.Header{}), zero.AppendAAD(nil, envelope.Header{}))
	}
	if zero.AADSize() != envelope.HeaderSize+8 {
		t.Errorf("AADSize %d", zero.AADSize())
	}
}

func TestServiceBindingIsOneContext(t *testing.T) {
	caller, service := map[string]string{"z": "1", "a": "2"}, map[string]string{"keyholt.m": "3"}
	b, err := envelope.NewServiceBinding(caller, service, []byte("d"))
	if err != nil {
		t.Fatal(err)
	}
	_, context, data := decodeAAD(t, b.AppendAAD(nil, envelope.Header{}))
	if !maps.Equal(context, map[string]string{"z": "1", "a": "2", "keyholt.m": "3"}) || string(data) != "d" {
		t.Errorf("bound %v and %q", context, data)
	}
}

func TestAppendAADAllocatesNothing(t *testing.T) {
	b := mustBinding(t, map[string]string{"tenant": "acme", "purpose": "orders"}, []byte("row 42"))
	dst := make([]byte, 0, b.AADSize())
	if n := testing.AllocsPerRun(100, func() { dst = b.AppendAAD(dst[:0], envelope.Header{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// decodeAAD is the inverse of the encoding, written from FORMAT.md. That there is one shows that the encoding is
// injective.
func decodeAAD(t testing.TB, p []byte) (envelope.Header, map[string]string, []byte) {
	t.Helper()
	h := envelope.Header(p[:envelope.HeaderSize])
	p = p[envelope.HeaderSize:]
	number := func() int {
		n := binary.BigEndian.Uint32(p)
		p = p[4:]
		return int(n)
	}
	field := func() string {
		n := number()
		s := string(p[:n])
		p = p[n:]
		return s
	}
	context := make(map[string]string)
	last := ""
	for n := number(); n > 0; n-- {
		key := field()
		if key <= last {
			t.Errorf("key %q after %q", key, last)
		}
		context[key], last = field(), key
	}
	data := field()
	if len(p) != 0 {
		t.Errorf("%d bytes after the additional data", len(p))
	}
	return h, context, []byte(data)
}
