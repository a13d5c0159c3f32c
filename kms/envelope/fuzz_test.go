package envelope_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/keyholt/keyholt/kms/envelope"
)

// FuzzParse: no input panics; what parses is, appended, the input again.
func FuzzParse(f *testing.F) {
	for _, b := range validBlobs() {
		p, err := envelope.Append(nil, b)
		if err != nil {
			f.Fatal(err)
		}
		if len(p) < 1000 {
			f.Add(p)
			f.Add(p[:len(p)/2])
		}
	}
	f.Add([]byte("KH"))
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := envelope.Parse(p)
		if err != nil {
			if !errors.Is(err, envelope.ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		again, err := envelope.Append(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "appended", again, p)
		h := b.Header()
		if !bytes.HasPrefix(p, h[:]) {
			t.Errorf("header %x of %x", h, p)
		}
		if n := b.PlaintextSize(); n < 0 || n > envelope.MaxPlaintextSize {
			t.Errorf("plaintext size %d", n)
		}
	})
}

// FuzzParseFileHeader: as FuzzParse, for files.
func FuzzParseFileHeader(f *testing.F) {
	token, id := testToken(f), envelope.FileID(sequence(0xf0, 16))
	for _, wrapped := range [][]byte{
		wrapFileKey(f, token, envelope.FormatDerived, 24, id, sequence(0, 32)),
		wrapFileKey(f, token, envelope.FormatStrict, 12, id, sequence(0, 32)),
		wrapFileKey(f, token, envelope.FormatStrict, 16, id, sequence(0, 32)),
	} {
		p, err := envelope.AppendFileHeader(nil, envelope.FileHeader{ID: id, WrappedKey: wrapped})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
		f.Add(append(p, "the stream"...))
		f.Add(p[:60])
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		h, n, err := envelope.ParseFileHeader(p)
		if err != nil {
			if !errors.Is(err, envelope.ErrMalformed) {
				t.Fatalf("%v is not ErrMalformed", err)
			}
			return
		}
		again, err := envelope.AppendFileHeader(nil, h)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "appended", again, p[:n])
		prefix := h.ID.Prefix()
		requireEqual(t, "prefix", prefix[:], p[:envelope.FilePrefixSize])
	})
}

// FuzzFlip: a blob opens as it was sealed, and does not once any bit of it, of the context or of the additional data
// is another. bit is taken modulo the number of bits of all of them together.
func FuzzFlip(f *testing.F) {
	f.Add(byte(1), byte(1), []byte("payload"), "tenant", "acme", []byte("row 42"), uint32(0))
	f.Add(byte(1), byte(2), sequence(0, 32), "tenant", "acme", []byte("row 42"), uint32(17))
	f.Add(byte(2), byte(1), []byte(""), "k", "", []byte(""), uint32(163))
	f.Add(byte(0), byte(2), sequence(0, 16), "k", "v", []byte{0}, uint32(0xffffffff))
	token := testToken(f)
	f.Fuzz(func(t *testing.T, format, kind byte, plaintext []byte, key, value string, data []byte, bit uint32) {
		// Three shapes of blob: format 1, and format 2 with either nonce.
		shape, nonce := envelope.FormatDerived, sequence(3, 24)
		if format%3 != 1 {
			shape, nonce = envelope.FormatStrict, sequence(3, 12+4*int(format%3/2))
		}
		k := envelope.KindData + envelope.Kind(kind%2)
		if k == envelope.KindWrappedKey {
			plaintext = append(plaintext, make([]byte, envelope.DataKeySizeMin)...)
			plaintext = plaintext[:min(len(plaintext), envelope.DataKeySizeMax)]
		}
		bound := map[string]string{key: value}
		b, err := envelope.NewBinding(bound, data)
		if err != nil || len(plaintext) > 4096 {
			t.Skip()
		}
		p := token.seal(t, shape, k, nonce, b, plaintext)
		got, err := token.open(t, p, b)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "plaintext", got, plaintext)

		all := bytes.Join([][]byte{p, []byte(key), []byte(value), data}, nil)
		bit %= uint32(8 * len(all))
		all[bit/8] ^= 1 << (bit % 8)
		take := func(n int) []byte {
			head := all[:n]
			all = all[n:]
			return head
		}
		p = take(len(p))
		key, value, data = string(take(len(key))), string(take(len(value))), take(len(data))
		if b, err = envelope.NewBinding(map[string]string{key: value}, data); err != nil {
			return // refused even before it could fail to open
		}
		got, err = token.open(t, p, b)
		if !errors.Is(err, envelope.ErrOpen) && !errors.Is(err, envelope.ErrMalformed) || got != nil {
			t.Fatalf("bit %d flipped: got %x, %v", bit, got, err)
		}
	})
}

// decodeFuzzBinding makes a context and additional data out of fuzz input: fields preceded by one length byte, in turn
// keys and values, the last one being the data.
func decodeFuzzBinding(p []byte) (map[string]string, []byte) {
	context := make(map[string]string)
	var fields [][]byte
	for len(p) > 0 {
		n := min(int(p[0]), len(p)-1)
		fields, p = append(fields, p[1:1+n]), p[1+n:]
	}
	for len(fields) > 1 {
		context[string(fields[0])] = string(fields[1])
		fields = fields[2:]
	}
	if len(fields) == 1 {
		return context, fields[0]
	}
	return context, nil
}

// FuzzAADInjective: AAD bytes decode to exactly the header, context and data that went in, and two inputs have the same
// AAD only if they are the same.
func FuzzAADInjective(f *testing.F) {
	f.Add(byte(1), []byte("\x01a\x02bc"), byte(1), []byte("\x02ab\x01c"))
	f.Add(byte(1), []byte("\x01a\x01b\x01c"), byte(1), []byte("\x03abc"))
	f.Add(byte(1), []byte("\x01a\x01b\x01c\x01d"), byte(1), []byte("\x01c\x01d\x01a\x01b"))
	f.Add(byte(1), []byte("\x01a\x00\x00"), byte(2), []byte("\x01a\x00"))
	f.Fuzz(func(t *testing.T, kind1 byte, p1 []byte, kind2 byte, p2 []byte) {
		aad := func(kind byte, p []byte) (envelope.Header, map[string]string, []byte, []byte) {
			context, data := decodeFuzzBinding(p)
			b, err := envelope.NewBinding(context, data)
			if err != nil {
				t.Skip()
			}
			h := envelope.NewHeader(envelope.FormatDerived, envelope.Kind(kind), testUID())
			out := b.AppendAAD(nil, h)
			gotHeader, gotContext, gotData := decodeAAD(t, out)
			if gotHeader != h || !maps.Equal(gotContext, context) || !bytes.Equal(gotData, data) {
				t.Errorf("%x decodes to %x %q %q", out, gotHeader, gotContext, gotData)
			}
			return h, context, data, out
		}
		h1, c1, d1, a1 := aad(kind1, p1)
		h2, c2, d2, a2 := aad(kind2, p2)
		same := h1 == h2 && maps.Equal(c1, c2) && bytes.Equal(d1, d2)
		if bytes.Equal(a1, a2) != same {
			t.Errorf("same input %v, AADs %x and %x", same, a1, a2)
		}
	})
}

// FuzzBinding: whatever NewBinding accepts keeps the rules of FORMAT.md sections 2 and 8, and whatever it refuses
// arrives as a FieldError.
func FuzzBinding(f *testing.F) {
	f.Add([]byte("\x01a\x02bc"))
	f.Add([]byte("\x09keyholt.x\x01v"))
	f.Add([]byte("\x00\x00"))
	f.Add([]byte("\x01\xff\x00"))
	f.Fuzz(func(t *testing.T, p []byte) {
		context, data := decodeFuzzBinding(p)
		ok, size := len(context) <= 64 && len(data) <= 65536, 0
		for key, value := range context {
			size += len(key) + len(value)
			ok = ok && key != "" && utf8.ValidString(key) && utf8.ValidString(value) &&
				!bytes.HasPrefix([]byte(key), []byte("keyholt."))
		}
		ok = ok && size <= 8192
		_, err := envelope.NewBinding(context, data)
		var field *envelope.FieldError
		if ok != (err == nil) || err != nil && !errors.As(err, &field) {
			t.Errorf("%q: got %v, want accepted: %v", context, err, ok)
		}
	})
}

// TestSeedCorpora fails when the committed inputs of a fuzz target are gone: an empty corpus tests nothing.
func TestSeedCorpora(t *testing.T) {
	for _, target := range []string{
		"FuzzParse", "FuzzParseFileHeader", "FuzzParseMessage", "FuzzFlip", "FuzzAADInjective", "FuzzBinding",
	} {
		files, err := filepath.Glob(filepath.Join("testdata", "fuzz", target, "*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			t.Errorf("no seeds for %s", target)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(raw, []byte("go test fuzz v1\n")) {
				t.Errorf("%s is not a fuzz input", file)
			}
		}
	}
}

// TestEveryBitFlipFails flips each bit of one blob of each shape, where FuzzFlip tries some.
func TestEveryBitFlipFails(t *testing.T) {
	token := testToken(t)
	b := mustBinding(t, map[string]string{"tenant": "acme"}, []byte("row 42"))
	for _, p := range [][]byte{
		token.seal(t, envelope.FormatDerived, envelope.KindWrappedKey, sequence(3, 24), b, sequence(0, 32)),
		token.seal(t, envelope.FormatDerived, envelope.KindData, sequence(3, 24), b, sequence(0, 33)),
		token.seal(t, envelope.FormatStrict, envelope.KindData, sequence(3, 12), b, sequence(0, 33)),
		token.seal(t, envelope.FormatStrict, envelope.KindData, sequence(3, 16), b, sequence(0, 33)),
	} {
		if _, err := token.open(t, p, b); err != nil {
			t.Fatal(err)
		}
		for bit := range 8 * len(p) {
			flipped := bytes.Clone(p)
			flipped[bit/8] ^= 1 << (bit % 8)
			if _, err := token.open(t, flipped, b); err == nil {
				t.Errorf("%v, kind %d: opens with bit %d flipped", envelope.Format(p[2]), p[3], bit)
			}
		}
	}
}

// TestNonceLengthCannotShift: in format 2 the nonce length is not in the AAD, but moving bytes between nonce and
// ciphertext makes another nonce, and that fails.
func TestNonceLengthCannotShift(t *testing.T) {
	token := testToken(t)
	for _, size := range []int{12, 16} {
		p := token.seal(t, envelope.FormatStrict, envelope.KindData, sequence(3, size), envelope.Binding{}, sequence(0, 40))
		p[envelope.HeaderSize] = byte(12 + 16 - size)
		if _, err := token.open(t, p, envelope.Binding{}); !errors.Is(err, envelope.ErrOpen) {
			t.Errorf("nonce of %d bytes: got %v", size, err)
		}
	}
}

// TestAADDependsOnHeader: the 20 header bytes come first, so that no context can imitate another key or kind.
func TestAADDependsOnHeader(t *testing.T) {
	b := mustBinding(t, map[string]string{"a": "b"}, nil)
	h := envelope.NewHeader(envelope.FormatStrict, envelope.KindData, testUID())
	aad := b.AppendAAD([]byte("kept"), h)
	requireEqual(t, "beginning", aad[:4+envelope.HeaderSize], append([]byte("kept"), h[:]...))
	if n := binary.BigEndian.Uint32(aad[4+envelope.HeaderSize:]); n != 1 {
		t.Errorf("%d pairs", n)
	}
}
