package envelope_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

// wrapMessageKey wraps a message's data key as FORMAT.md section 10 says: bound to the prefix of messages.
func wrapMessageKey(t testing.TB, token *softToken, f envelope.Format, nonce int, key []byte) []byte {
	t.Helper()
	prefix := envelope.MessagePrefix()
	return token.seal(t, f, envelope.KindWrappedKey, sequence(9, nonce), mustBinding(t, nil, prefix[:]), key)
}

func TestMessageRoundTrip(t *testing.T) {
	token := testToken(t)
	sealed := sequence(1, envelope.MessageNonceSize+envelope.TagSize)
	for want, wrapped := range map[int][]byte{
		98: wrapMessageKey(t, token, envelope.FormatDerived, 24, sequence(0, 32)),
		87: wrapMessageKey(t, token, envelope.FormatStrict, 12, sequence(0, 32)),
		91: wrapMessageKey(t, token, envelope.FormatStrict, 16, sequence(0, 32)),
	} {
		p, err := envelope.AppendMessageHeader([]byte("kept"), wrapped)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "what dst held", p[:4], []byte("kept"))
		if p = p[4:]; len(p) != want || len(p)+len(sealed) > envelope.MessageOverheadMax {
			t.Errorf("header of %d bytes, want %d; overhead at most %d", len(p), want, envelope.MessageOverheadMax)
		}
		m, err := envelope.ParseMessage(append(p, sealed...))
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "wrapped key", m.WrappedKey, wrapped)
		requireEqual(t, "sealed", m.Sealed, sealed)
	}
}

func TestMessagePrefix(t *testing.T) {
	p := envelope.MessagePrefix()
	requireEqual(t, "prefix", p[:], []byte("KHM\x01"))
	requireEqual(t, "AAD", envelope.AppendMessageAAD([]byte("kept"), []byte("row 42")), []byte("keptKHM\x01row 42"))
	if _, err := envelope.Parse(append(p[:], make([]byte, 100)...)); !errors.Is(err, envelope.ErrMalformed) {
		t.Errorf("the prefix of a message begins a blob: %v", err)
	}
}

func TestParseMessageRefuses(t *testing.T) {
	token := testToken(t)
	wrapped := wrapMessageKey(t, token, envelope.FormatDerived, 24, sequence(0, 32))
	header, err := envelope.AppendMessageHeader(nil, wrapped)
	if err != nil {
		t.Fatal(err)
	}
	good := append(header, make([]byte, envelope.MessageNonceSize+envelope.TagSize)...)
	if _, err := envelope.ParseMessage(good); err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := envelope.ParseMessage(good[:n]); !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("cut off after %d bytes: %v", n, err)
		}
	}
	changed := func(at int, value byte) []byte {
		p := bytes.Clone(good)
		p[at] = value
		return p
	}
	for name, test := range map[string]struct {
		p    []byte
		want string
	}{
		"another magic":          {changed(2, 'X'), "not a Keyholt message"},
		"a later version":        {changed(3, 2), "version 2, want 1"},
		"no wrapped key":         {changed(5, 0), "malformed"},
		"a longer wrapped key":   {changed(4, 1), "too early"},
		"data for a wrapped key": {changed(6+3, byte(envelope.KindData)), "needs a wrapped data key"},
	} {
		if _, err := envelope.ParseMessage(test.p); !errors.Is(err, envelope.ErrMalformed) ||
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
}

func TestAppendMessageHeaderRefuses(t *testing.T) {
	token := testToken(t)
	for name, wrapped := range map[string][]byte{
		"nothing":     nil,
		"a short key": wrapMessageKey(t, token, envelope.FormatDerived, 24, sequence(0, 16)),
		"a long key":  wrapMessageKey(t, token, envelope.FormatDerived, 24, sequence(0, 64)),
		"data":        token.seal(t, envelope.FormatDerived, envelope.KindData, sequence(9, 24), envelope.Binding{}, sequence(0, 32)),
	} {
		if _, err := envelope.AppendMessageHeader(nil, wrapped); !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// FuzzParseMessage: what parses is put together again to the same bytes.
func FuzzParseMessage(f *testing.F) {
	token := testToken(f)
	for _, nonce := range []int{12, 16, 24} {
		format := envelope.FormatStrict
		if nonce == 24 {
			format = envelope.FormatDerived
		}
		p, err := envelope.AppendMessageHeader(nil, wrapMessageKey(f, token, format, nonce, sequence(0, 32)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append(p, sequence(0, 40)...))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		m, err := envelope.ParseMessage(p)
		if err != nil {
			if !errors.Is(err, envelope.ErrMalformed) {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := envelope.AppendMessageHeader(nil, m.WrappedKey)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "made again", append(again, m.Sealed...), p)
	})
}
