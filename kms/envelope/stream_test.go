package envelope_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/keyholt/keyholt/kms/envelope"
)

// The stream of an encrypted file is Tink's; this package only specifies it. These tests hold the words of FORMAT.md
// section 9 against Tink's bytes, by way of a reader and writer made from the document alone.

const (
	streamHeaderSize = 40
	streamTagSize    = 16
)

// specStreamKey derives the stream key.
func specStreamKey(t testing.TB, dataKey, salt, prefix []byte) cipher.AEAD {
	t.Helper()
	key, err := hkdf.Key(sha256.New, dataKey, salt, string(prefix), 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// specNonce is nonce prefix || u32(i) || last.
func specNonce(noncePrefix []byte, i int, last bool) []byte {
	nonce := binary.BigEndian.AppendUint32(bytes.Clone(noncePrefix), uint32(i))
	if last {
		return append(nonce, 1)
	}
	return append(nonce, 0)
}

// specSealStream writes a stream with the salt and nonce prefix given.
func specSealStream(t testing.TB, dataKey, prefix, salt, noncePrefix, plaintext []byte) []byte {
	t.Helper()
	aead := specStreamKey(t, dataKey, salt, prefix)
	out := append([]byte{streamHeaderSize}, salt...)
	out = append(out, noncePrefix...)
	room := envelope.FileSegmentSize - streamHeaderSize - streamTagSize
	for i := 0; ; i++ {
		n := min(room, len(plaintext))
		last := n == len(plaintext)
		out = aead.Seal(out, specNonce(noncePrefix, i, last), plaintext[:n], nil)
		if last {
			return out
		}
		plaintext, room = plaintext[n:], envelope.FileSegmentSize-streamTagSize
	}
}

// specOpenStream reads a stream.
func specOpenStream(t testing.TB, dataKey, prefix, stream []byte) ([]byte, error) {
	t.Helper()
	if len(stream) < streamHeaderSize || stream[0] != streamHeaderSize {
		return nil, errors.New("stream header")
	}
	aead := specStreamKey(t, dataKey, stream[1:33], prefix)
	noncePrefix := stream[33:40]
	var plaintext []byte
	end := envelope.FileSegmentSize - streamHeaderSize
	for i, rest := 0, stream[streamHeaderSize:]; ; i++ {
		n := min(end, len(rest))
		last := n == len(rest)
		var err error
		if plaintext, err = aead.Open(plaintext, specNonce(noncePrefix, i, last), rest[:n], nil); err != nil {
			return nil, err
		}
		if last {
			return plaintext, nil
		}
		rest, end = rest[n:], envelope.FileSegmentSize
	}
}

func tinkStream(t testing.TB, dataKey []byte) *subtle.AESGCMHKDF {
	t.Helper()
	s, err := subtle.NewAESGCMHKDF(dataKey, "SHA256", 32, envelope.FileSegmentSize, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tinkOpenStream(t testing.TB, dataKey, prefix, stream []byte) ([]byte, error) {
	t.Helper()
	r, err := tinkStream(t, dataKey).NewDecryptingReader(bytes.NewReader(stream), prefix)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func tinkSealStream(t testing.TB, dataKey, prefix, plaintext []byte) []byte {
	t.Helper()
	var stream bytes.Buffer
	w, err := tinkStream(t, dataKey).NewEncryptingWriter(&stream, prefix)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plaintext); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return stream.Bytes()
}

func TestStreamIsTinks(t *testing.T) {
	dataKey, salt, noncePrefix := sequence(0x80, 32), sequence(0xd0, 32), sequence(0xe0, 7)
	id := envelope.NewFileID()
	p := id.Prefix()
	prefix := p[:]
	const first, further = 1048520, 1048560 // plaintext bytes of a full segment, from FORMAT.md
	for _, size := range []int{0, 1, first - 1, first, first + 1, first + further, first + further + 1, 2_500_000} {
		plaintext := sequence(byte(size), size)
		theirs := tinkSealStream(t, dataKey, prefix, plaintext)
		got, err := specOpenStream(t, dataKey, prefix, theirs)
		if err != nil {
			t.Fatalf("%d bytes from Tink: %v", size, err)
		}
		requireEqual(t, "Tink's stream by the document", got, plaintext)

		stream := specSealStream(t, dataKey, prefix, salt, noncePrefix, plaintext)
		if len(stream) != len(theirs) {
			t.Errorf("%d bytes: stream of %d, Tink's has %d", size, len(stream), len(theirs))
		}
		if got, err = tinkOpenStream(t, dataKey, prefix, stream); err != nil {
			t.Fatalf("%d bytes to Tink: %v", size, err)
		}
		requireEqual(t, "the document's stream by Tink", got, plaintext)
	}
}

// Cut at a segment boundary, with a segment left out, under another file's prefix: none opens.
func TestStreamRefusesChanges(t *testing.T) {
	dataKey, p := sequence(0x80, 32), envelope.FileID{1}.Prefix()
	other := envelope.FileID{2}.Prefix()
	stream := tinkSealStream(t, dataKey, p[:], sequence(0, 2_500_000))
	const segment = envelope.FileSegmentSize
	flipped := bytes.Clone(stream)
	flipped[segment+5] ^= 1
	for name, c := range map[string]struct{ stream, prefix []byte }{
		"cut at a boundary":   {stream[:2*segment], p[:]},
		"cut in a segment":    {stream[:2*segment+100], p[:]},
		"one segment missing": {append(bytes.Clone(stream[:segment]), stream[2*segment:]...), p[:]},
		"extended":            {append(bytes.Clone(stream), 0), p[:]},
		"a bit flipped":       {flipped, p[:]},
		"another file's":      {stream, other[:]},
	} {
		if _, err := tinkOpenStream(t, dataKey, c.prefix, c.stream); err == nil {
			t.Errorf("%s: Tink opens it", name)
		}
		if _, err := specOpenStream(t, dataKey, c.prefix, c.stream); err == nil {
			t.Errorf("%s: the document's reader opens it", name)
		}
	}
}

// The shortest file is longer than the longest header, as FileHeaderMaxSize promises to those who peek.
func TestShortestFile(t *testing.T) {
	token, id := testToken(t), envelope.NewFileID()
	p := id.Prefix()
	file, err := envelope.AppendFileHeader(nil, envelope.FileHeader{
		ID: id, WrappedKey: wrapFileKey(t, token, envelope.FormatStrict, 12, id, sequence(0, 32)),
	})
	if err != nil {
		t.Fatal(err)
	}
	file = append(file, tinkSealStream(t, sequence(0, 32), p[:], nil)...)
	if len(file) != 163 || len(file) < envelope.FileHeaderMaxSize {
		t.Errorf("%d bytes, header up to %d", len(file), envelope.FileHeaderMaxSize)
	}
}
