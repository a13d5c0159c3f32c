package envelope_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

// wrapFileKey wraps a file's data key as FORMAT.md section 9 says: bound to the prefix of its file.
func wrapFileKey(t testing.TB, token *softToken, f envelope.Format, nonce int, id envelope.FileID, key []byte) []byte {
	t.Helper()
	prefix := id.Prefix()
	return token.seal(t, f, envelope.KindWrappedKey, sequence(9, nonce), mustBinding(t, nil, prefix[:]), key)
}

func TestFileHeaderRoundTrip(t *testing.T) {
	token, id := testToken(t), envelope.NewFileID()
	for want, wrapped := range map[int][]byte{
		118: wrapFileKey(t, token, envelope.FormatDerived, 24, id, sequence(0, 32)),
		107: wrapFileKey(t, token, envelope.FormatStrict, 12, id, sequence(0, 32)),
		111: wrapFileKey(t, token, envelope.FormatStrict, 16, id, sequence(0, 32)),
	} {
		p, err := envelope.AppendFileHeader([]byte("kept"), envelope.FileHeader{ID: id, WrappedKey: wrapped})
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "what dst held", p[:4], []byte("kept"))
		h, n, err := envelope.ParseFileHeader(append(p[4:], "the stream"...))
		if err != nil {
			t.Fatal(err)
		}
		if n != want || n != len(p)-4 || n > envelope.FileHeaderMaxSize || h.ID != id {
			t.Errorf("length %d of %d, id %v", n, len(p)-4, h.ID)
		}
		requireEqual(t, "wrapped key", h.WrappedKey, wrapped)
	}
}

func TestFilePrefix(t *testing.T) {
	id := envelope.FileID(sequence(0xf0, 16))
	p := id.Prefix()
	requireEqual(t, "prefix", p[:], append([]byte("KEYHOLT\x01"), id[:]...))
	if id.String() != "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" {
		t.Errorf("file id printed as %s", id)
	}
	if first, second := envelope.NewFileID(), envelope.NewFileID(); first == second {
		t.Error("two file ids are the same")
	}
}

// A wrapped key moved into the header of another file must not open there.
func TestFileKeyIsBoundToItsFile(t *testing.T) {
	token := testToken(t)
	mine, other := envelope.NewFileID(), envelope.NewFileID()
	wrapped := wrapFileKey(t, token, envelope.FormatDerived, 24, mine, sequence(0, 32))
	prefix := other.Prefix()
	if _, err := token.open(t, wrapped, mustBinding(t, nil, prefix[:])); !errors.Is(err, envelope.ErrOpen) {
		t.Errorf("got %v, want ErrOpen", err)
	}
	prefix = mine.Prefix()
	if _, err := token.open(t, wrapped, mustBinding(t, nil, prefix[:])); err != nil {
		t.Error(err)
	}
}

func TestParseFileHeaderRefuses(t *testing.T) {
	token, id := testToken(t), envelope.NewFileID()
	good, err := envelope.AppendFileHeader(nil, envelope.FileHeader{
		ID: id, WrappedKey: wrapFileKey(t, token, envelope.FormatDerived, 24, id, sequence(0, 32)),
	})
	if err != nil {
		t.Fatal(err)
	}
	changed := func(change func([]byte) []byte) []byte { return change(bytes.Clone(good)) }
	length := func(n uint16) []byte {
		return changed(func(p []byte) []byte {
			binary.BigEndian.PutUint16(p[24:], n)
			return append(p, make([]byte, 1<<16)...)
		})
	}
	for name, c := range map[string]struct {
		in    []byte
		cause string
	}{
		"nothing":           {nil, "not a Keyholt file"},
		"a blob":            {good[26:], "not a Keyholt file"},
		"text":              {[]byte("KEYHOLD your horses"), "not a Keyholt file"},
		"only a magic":      {good[:7], "ends within its header, after 7 bytes"},
		"no length":         {good[:25], "ends within its header, after 25 bytes"},
		"version 0":         {changed(func(p []byte) []byte { p[7] = 0; return p }), "file version 0"},
		"version 2":         {changed(func(p []byte) []byte { p[7] = 2; return p }), "file version 2"},
		"length 0":          {length(0), "a wrapped key of 0 bytes"},
		"length 93":         {length(93), "a wrapped key of 93 bytes"},
		"length 65535":      {length(65535), "a wrapped key of 65535 bytes"},
		"length of format2": {length(85), "not 25 bytes of kind"},
		"short wrapped key": {good[:117], "ends within its wrapped key, after 117 bytes"},
		"wrapped key bad":   {changed(func(p []byte) []byte { p[26] = 'X'; return p }), `does not begin with "KH"`},
		"data, not a key":   {changed(func(p []byte) []byte { p[29] = 1; return p }), `of kind "data"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := envelope.ParseFileHeader(c.in)
			if !errors.Is(err, envelope.ErrMalformed) || !strings.Contains(err.Error(), c.cause) {
				t.Errorf("got %v, want ErrMalformed with %q", err, c.cause)
			}
		})
	}
	wrapped24 := wrapFileKey(t, token, envelope.FormatDerived, 24, id, sequence(0, 24))
	for name, h := range map[string]envelope.FileHeader{"a 24-byte key": {WrappedKey: wrapped24}, "no key": {}} {
		if _, err := envelope.AppendFileHeader(nil, h); !errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
