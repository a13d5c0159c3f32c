package envelope_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/keyholt/keyholt/kms/envelope"
)

// vector is one ```vector block of FORMAT.md: "name: value" lines, of which "context" may repeat.
type vector struct {
	kind    string
	line    int
	context map[string]string
	fields  map[string]string
	used    map[string]bool
}

// bytes returns a field: hexadecimal, which may hold spaces, or a quoted string. A field that is left out is empty only
// where the caller says so.
func (v *vector) bytes(t *testing.T, name string) []byte {
	t.Helper()
	s, ok := v.fields[name]
	if !ok {
		t.Fatalf("FORMAT.md:%d: no field %q", v.line, name)
	}
	v.used[name] = true
	if strings.HasPrefix(s, `"`) {
		text, err := strconv.Unquote(s)
		if err != nil {
			t.Fatalf("FORMAT.md:%d: %s: %v", v.line, name, err)
		}
		return []byte(text)
	}
	return unhex(t, strings.ReplaceAll(s, " ", ""))
}

func (v *vector) number(t *testing.T, name string) int {
	t.Helper()
	n, err := strconv.Atoi(string(v.bytes(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// binding uses up context and additional data, both optional.
func (v *vector) binding(t *testing.T) envelope.Binding {
	t.Helper()
	var data []byte
	if _, ok := v.fields["additional data"]; ok {
		data = v.bytes(t, "additional data")
	}
	return mustBinding(t, v.context, data)
}

// readVectors returns the blocks of FORMAT.md.
func readVectors(t *testing.T) []*vector {
	t.Helper()
	doc, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []*vector
	var open *vector
	for i, line := range strings.Split(string(doc), "\n") {
		kind, starts := strings.CutPrefix(line, "```vector ")
		switch {
		case starts:
			open = &vector{kind: kind, line: i + 1, context: make(map[string]string),
				fields: make(map[string]string), used: make(map[string]bool)}
			all = append(all, open)
		case line == "```":
			open = nil
		case open != nil:
			open.add(t, line)
		}
	}
	return all
}

func (v *vector) add(t *testing.T, line string) {
	t.Helper()
	name, value, ok := strings.Cut(line, ": ")
	if !ok {
		t.Fatalf("FORMAT.md:%d: not a field: %q", v.line, line)
	}
	if name != "context" {
		if _, twice := v.fields[name]; twice {
			t.Fatalf("FORMAT.md:%d: %q twice", v.line, name)
		}
		v.fields[name] = value
		return
	}
	left, right, ok := strings.Cut(value, " = ")
	key, err1 := strconv.Unquote(left)
	text, err2 := strconv.Unquote(right)
	if !ok || err1 != nil || err2 != nil {
		t.Fatalf("FORMAT.md:%d: not a pair: %q", v.line, value)
	}
	v.context[key] = text
}

// TestFormatDocument checks every vector of FORMAT.md, and that no field of one goes unchecked.
func TestFormatDocument(t *testing.T) {
	checks := map[string]func(*testing.T, *vector){
		"xaes": checkXAESVector, "accumulated": checkAccumulatedVector, "aad": checkAADVector,
		"blob": checkBlobVector, "file": checkFileVector, "message": checkMessageVector,
	}
	count := make(map[string]int)
	aads := make(map[string]int)
	for _, v := range readVectors(t) {
		t.Run(v.kind+" at line "+strconv.Itoa(v.line), func(t *testing.T) {
			check, ok := checks[v.kind]
			if !ok {
				t.Fatalf("FORMAT.md:%d: unknown kind of vector %q", v.line, v.kind)
			}
			count[v.kind]++
			check(t, v)
			for name := range v.fields {
				if !v.used[name] {
					t.Errorf("FORMAT.md:%d: field %q is not checked", v.line, name)
				}
			}
			if v.kind == "aad" {
				aads[string(v.bytes(t, "AAD"))]++
			}
		})
	}
	for kind, least := range map[string]int{"xaes": 2, "accumulated": 1, "aad": 6, "blob": 4, "file": 1, "message": 1} {
		if count[kind] < least {
			t.Errorf("FORMAT.md has %d vectors of kind %q, want at least %d", count[kind], kind, least)
		}
	}
	if len(aads) != count["aad"] {
		t.Error("two AAD vectors have the same bytes")
	}
}

func checkXAESVector(t *testing.T, v *vector) {
	key, nonce := v.bytes(t, "K"), v.bytes(t, "nonce")
	token := newSoftToken(t, key, envelope.UID{})
	l := make([]byte, envelope.BlockSize)
	token.encryptBlocks(l)
	requireEqual(t, "L", l, v.bytes(t, "L"))

	// The blocks are M1 xor K1 and M2 xor K1, so that xoring M1 and M2 must give K1 both times.
	blocks := token.maskKey().AppendDerivationBlocks(nil, (*[envelope.NonceSize]byte)(nonce))
	for i, name := range []string{"M1", "M2"} {
		k1 := blocks[16*i : 16*i+16 : 16*i+16]
		for j, m := range v.bytes(t, name) {
			k1[j] ^= m
		}
		requireEqual(t, "K1 from "+name, k1, v.bytes(t, "K1"))
	}
	n := (*[envelope.NonceSize]byte)(nonce)
	requireEqual(t, "Kx", token.deriveKey(nonce)[:], v.bytes(t, "Kx"))
	sealed, err := envelope.SealDerived(nil, token.deriveKey(nonce), n, v.bytes(t, "plaintext"), v.bytes(t, "AAD"))
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "sealed", sealed, v.bytes(t, "sealed"))
	opened, err := envelope.OpenDerived(nil, token.deriveKey(nonce), slices.Concat(nonce, sealed), v.bytes(t, "AAD"))
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "plaintext", opened, v.bytes(t, "plaintext"))
}

func checkAccumulatedVector(t *testing.T, v *vector) {
	requireEqual(t, "hash", accumulate(t, v.number(t, "iterations")), v.bytes(t, "hash"))
}

func checkAADVector(t *testing.T, v *vector) {
	h := envelope.NewHeader(envelope.FormatDerived, envelope.KindWrappedKey, testUID())
	requireEqual(t, "AAD", v.binding(t).AppendAAD(nil, h), v.bytes(t, "AAD"))
}

func checkBlobVector(t *testing.T, v *vector) {
	f, k := envelope.Format(v.number(t, "format")), envelope.Kind(v.number(t, "kind"))
	uid := envelope.UID(v.bytes(t, "UID"))
	token, b := newSoftToken(t, v.bytes(t, "K"), uid), v.binding(t)
	plaintext, want := v.bytes(t, "plaintext"), v.bytes(t, "blob")
	aad := b.AppendAAD(nil, envelope.NewHeader(f, k, uid))
	requireEqual(t, "AAD", aad, v.bytes(t, "AAD"))
	requireEqual(t, "blob", token.seal(t, f, k, v.bytes(t, "nonce"), b, plaintext), want)
	opened, err := token.open(t, want, b)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "plaintext", opened, plaintext)
	if f == envelope.FormatDerived {
		theirs, err := tinkXAES(t, v.bytes(t, "K")).Decrypt(want[envelope.HeaderSize:], aad)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "plaintext by Tink", theirs, plaintext)
	}
}

func checkFileVector(t *testing.T, v *vector) {
	file, plaintext := v.bytes(t, "file"), v.bytes(t, "plaintext")
	dataKey, salt, noncePrefix := v.bytes(t, "data key"), v.bytes(t, "salt"), v.bytes(t, "nonce prefix")
	h, n, err := envelope.ParseFileHeader(file)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "file id", h.ID[:], v.bytes(t, "file id"))
	requireEqual(t, "wrapped key", h.WrappedKey, v.bytes(t, "wrapped key"))
	p := h.ID.Prefix()
	requireEqual(t, "prefix", p[:], v.bytes(t, "prefix"))

	token := newSoftToken(t, v.bytes(t, "K"), envelope.UID(v.bytes(t, "UID")))
	b := mustBinding(t, v.context, p[:])
	wrapped := token.seal(t, envelope.FormatDerived, envelope.KindWrappedKey, v.bytes(t, "nonce"), b, dataKey)
	requireEqual(t, "wrapped key made again", wrapped, h.WrappedKey)
	unwrapped, err := token.open(t, h.WrappedKey, b)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "data key", unwrapped, dataKey)

	streamKey := newSoftToken(t, v.bytes(t, "stream key"), envelope.UID{}).gcm(t, 12)
	segment := streamKey.Seal(nil, specNonce(noncePrefix, 0, true), plaintext, nil)
	requireEqual(t, "segment under the stream key", file[n+streamHeaderSize:], segment)
	requireEqual(t, "stream", file[n:], specSealStream(t, dataKey, p[:], salt, noncePrefix, plaintext))
	opened, err := tinkOpenStream(t, dataKey, p[:], file[n:])
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "plaintext by Tink", opened, plaintext)
}

func checkMessageVector(t *testing.T, v *vector) {
	message, dataKey, aad := v.bytes(t, "message"), v.bytes(t, "data key"), v.bytes(t, "AAD")
	m, err := envelope.ParseMessage(message)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "wrapped key", m.WrappedKey, v.bytes(t, "wrapped key"))
	header, err := envelope.AppendMessageHeader(nil, m.WrappedKey)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "made again", append(header, m.Sealed...), message)
	requireEqual(t, "AAD", envelope.AppendMessageAAD(nil, v.bytes(t, "additional data")), aad)

	token := newSoftToken(t, v.bytes(t, "K"), envelope.UID(v.bytes(t, "UID")))
	p := envelope.MessagePrefix()
	b := mustBinding(t, v.context, p[:])
	wrapped := token.seal(t, envelope.FormatDerived, envelope.KindWrappedKey, v.bytes(t, "nonce"), b, dataKey)
	requireEqual(t, "wrapped key made again", wrapped, m.WrappedKey)
	unwrapped, err := token.open(t, m.WrappedKey, b)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "data key", unwrapped, dataKey)

	nonce, plaintext := v.bytes(t, "message nonce"), v.bytes(t, "plaintext")
	gcm := newSoftToken(t, dataKey, envelope.UID{}).gcm(t, envelope.MessageNonceSize)
	requireEqual(t, "sealed", m.Sealed, gcm.Seal(nonce, nonce, plaintext, aad))
	tink, err := subtle.NewAESGCM(dataKey)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := tink.Decrypt(m.Sealed, aad)
	if err != nil {
		t.Fatal(err)
	}
	requireEqual(t, "plaintext by Tink", opened, plaintext)
}

// TestFormatDocumentNumbers holds the numbers in the prose against the constants.
func TestFormatDocumentNumbers(t *testing.T) {
	raw, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(raw)
	strictShort, strictLong := envelope.StrictOverheadShort+32, envelope.StrictOverheadLong+32
	for phrase, number := range map[string]int{
		"| plaintext of data | 0 to 65,536 bytes |":                                envelope.MaxPlaintextSize - 65536,
		"| data key | 16 to 64 bytes |":                                            (envelope.DataKeySizeMin - 16) | (envelope.DataKeySizeMax - 64),
		"| pairs of an encryption context | 64, reserved ones included |":          envelope.MaxContextPairs - 64,
		"| keys and values of an encryption context together | 8,192 bytes, ":      envelope.MaxContextSize - 8192,
		"| additional authenticated data | 65,536 bytes |":                         envelope.MaxAdditionalDataSize - 65536,
		"A wrapped 32-byte data key is 92 bytes in format 1":                       envelope.DerivedOverhead + 32 - 92,
		"in format 2 it is 81 or 85, by nonce length":                              (strictShort - 81) | (strictLong - 85),
		"ciphertext segments of 1,048,576 bytes":                                   envelope.FileSegmentSize - 1048576,
		"Keys that begin with `" + envelope.ReservedPrefix + "` are reserved.":     0,
		"The first 24 bytes, magic, version and file id, are the **prefix**.":      envelope.FilePrefixSize - 24,
		"The first 4 bytes, magic and version, are the **prefix**.":                envelope.MessagePrefixSize - 4,
		"6+w     12    nonce, random":                                              envelope.MessageNonceSize - 12,
		"It MUST NOT use one for more than 2^20: ":                                 envelope.MaxMessagesPerKey - 1<<20,
		"is encrypted on the caller's machine under a 32-byte data key, which the": envelope.MessageKeySize - 32,
		"encrypted on the caller's machine under a fresh 32-byte data key, which ": envelope.FileKeySize - 32,
	} {
		if !strings.Contains(doc, phrase) {
			t.Errorf("FORMAT.md does not say %q", phrase)
		}
		if number != 0 {
			t.Errorf("the code differs by %d from %q", number, phrase)
		}
	}
}
