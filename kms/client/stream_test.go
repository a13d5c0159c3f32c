package client

import (
	"bytes"
	"context"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// softKeys serves data keys under an AES key in memory.
type softKeys struct {
	key     []byte
	uid     envelope.UID
	given   []kms.Secret // every data key that was handed out
	asked   *kms.GenerateDataKeysRequest
	unwraps []*kms.UnwrapDataKeysRequest
}

func newSoftKeys() *softKeys {
	s := &softKeys{key: make([]byte, 32)}
	for i := range s.key {
		s.key[i] = byte(i)
	}
	for i := range s.uid {
		s.uid[i] = byte(0xa0 + i)
	}
	return s
}

func (s *softKeys) ecb(blocks []byte) error {
	block, err := aes.NewCipher(s.key)
	if err != nil {
		return err
	}
	for ; len(blocks) > 0; blocks = blocks[aes.BlockSize:] {
		block.Encrypt(blocks[:aes.BlockSize], blocks[:aes.BlockSize])
	}
	return nil
}

func (s *softKeys) mask() (envelope.MaskKey, error) {
	var l [envelope.BlockSize]byte
	if err := s.ecb(l[:]); err != nil {
		return envelope.MaskKey{}, err
	}
	return envelope.NewMaskKey(&l), nil
}

func (s *softKeys) GenerateDataKeys(_ context.Context, _ kms.Principal, r *kms.GenerateDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	s.asked = r
	mask, err := s.mask()
	if err != nil {
		return nil, err
	}
	binding, err := envelope.NewBinding(r.Binding.Context, r.Binding.AAD)
	if err != nil {
		return nil, err
	}
	dataKey := make(kms.Secret, r.Size)
	envelope.MixRandom(dataKey)
	s.given = append(s.given, dataKey)
	items := []envelope.SealItem{{
		Kind: envelope.KindWrappedKey, UID: s.uid, Binding: binding, Plaintext: dataKey,
	}}
	blocks, err := envelope.AppendSealBlocks(nil, &mask, items)
	if err != nil {
		return nil, err
	}
	if err := s.ecb(blocks); err != nil {
		return nil, err
	}
	if _, err := envelope.SealItems(nil, blocks, items); err != nil {
		return nil, err
	}
	return []kms.DataKeyResult{{DataKey: dataKey, Wrapped: items[0].Blob}}, nil
}

func (s *softKeys) UnwrapDataKeys(_ context.Context, _ kms.Principal, r *kms.UnwrapDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	s.unwraps = append(s.unwraps, r)
	mask, err := s.mask()
	if err != nil {
		return nil, err
	}
	binding, err := envelope.NewBinding(r.Binding.Context, r.Binding.AAD)
	if err != nil {
		return nil, err
	}
	blob, err := envelope.Parse(r.Items[0].Wrapped)
	if err != nil {
		return nil, err
	}
	items := []envelope.OpenItem{{Blob: &blob, Binding: binding}}
	blocks, err := envelope.AppendOpenBlocks(nil, &mask, items)
	if err != nil {
		return nil, err
	}
	if err := s.ecb(blocks); err != nil {
		return nil, err
	}
	if _, err := envelope.OpenItems(nil, blocks, items); err != nil {
		return nil, err
	}
	result := kms.DataKeyResult{DataKey: items[0].Plaintext}
	if errors.Is(items[0].Err, envelope.ErrOpen) {
		result.Err = &kms.Error{Sentinel: kms.ErrDecryptionFailed}
	}
	s.given = append(s.given, items[0].Plaintext)
	return []kms.DataKeyResult{result}, nil
}

var tenant = map[string]string{"tenant": "acme"}

func testKey(t testing.TB) kms.KeyName {
	t.Helper()
	key, err := kms.ParseKeyName("namespaces/shop/keys/orders")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encrypted(t testing.TB, s *softKeys, plaintext []byte) []byte {
	t.Helper()
	var file bytes.Buffer
	err := encryptStream(t.Context(), s, testKey(t), tenant, &file, bytes.NewReader(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func decrypted(t testing.TB, s *softKeys, file []byte) ([]byte, error) {
	t.Helper()
	var plaintext bytes.Buffer
	key := testKey(t)
	err := decryptStream(t.Context(), s, key.Namespace(), key, tenant, &plaintext, bytes.NewReader(file))
	return plaintext.Bytes(), err
}

func pattern(size int) []byte {
	p := make([]byte, size)
	for i := range p {
		p[i] = byte(i * 7 >> 3)
	}
	return p
}

func TestStreamRoundTrip(t *testing.T) {
	const first = envelope.FileSegmentSize - 40 - 16
	for _, size := range []int{0, 1, 4096, first - 1, first, first + 1, 3_000_000} {
		s := newSoftKeys()
		file := encrypted(t, s, pattern(size))
		got, err := decrypted(t, s, file)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(got, pattern(size)) {
			t.Errorf("%d bytes come back changed", size)
		}
		if len(s.given) != 2 {
			t.Fatalf("%d data keys handed out", len(s.given))
		}
		for _, dataKey := range s.given {
			if !bytes.Equal(dataKey, make([]byte, envelope.FileKeySize)) {
				t.Error("the data key was not wiped")
			}
		}
		if s.asked.Key != testKey(t) || s.unwraps[0].Key != testKey(t) ||
			s.unwraps[0].Parent != testKey(t).Namespace() {
			t.Errorf("asked for %v, then %v", s.asked.Key, s.unwraps[0].Key)
		}
	}
}

// The file in FORMAT.md, section 10.4, was not made by this code.
func TestStreamOfFormatDocument(t *testing.T) {
	document, err := os.ReadFile("../envelope/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(document), "\nfile: ")
	if !found {
		t.Fatal("FORMAT.md has no file vector")
	}
	digits, _, _ := strings.Cut(rest, "\n")
	file, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decrypted(t, newSoftKeys(), file)
	if err != nil || string(got) != "attack at dawn\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDecryptStreamRefuses(t *testing.T) {
	s := newSoftKeys()
	plaintext := pattern(2_500_000)
	file := encrypted(t, s, plaintext)
	headerSize := envelope.FileHeaderMaxSize
	flip := func(at int) []byte {
		f := bytes.Clone(file)
		f[at] ^= 0x10
		return f
	}
	const segment = envelope.FileSegmentSize
	swapped := append(bytes.Clone(encrypted(t, s, plaintext)[:headerSize]), file[headerSize:]...)
	tests := map[string]struct {
		file []byte
		want error
	}{
		"empty":                    {nil, envelope.ErrMalformed},
		"another file format":      {[]byte("%PDF-1.7 and so on"), envelope.ErrMalformed},
		"magic changed":            {flip(0), envelope.ErrMalformed},
		"version changed":          {flip(7), envelope.ErrMalformed},
		"file id changed":          {flip(10), kms.ErrDecryptionFailed},
		"wrapped key changed":      {flip(headerSize - 1), kms.ErrDecryptionFailed},
		"stream header changed":    {flip(headerSize), ErrStream},
		"salt changed":             {flip(headerSize + 3), ErrStream},
		"first segment changed":    {flip(headerSize + 1000), ErrStream},
		"last byte changed":        {flip(len(file) - 1), ErrStream},
		"cut in the header":        {file[:headerSize-1], envelope.ErrMalformed},
		"cut after the header":     {file[:headerSize], ErrStream},
		"cut in the stream header": {file[:headerSize+20], ErrStream},
		"cut in a segment":         {file[:headerSize+segment+77], ErrStream},
		"cut between segments":     {file[:headerSize+2*segment], ErrStream},
		"cut by one byte":          {file[:len(file)-1], ErrStream},
		"extended":                 {append(bytes.Clone(file), 0), ErrStream},
		"another file's header":    {swapped, ErrStream},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := decrypted(t, s, test.file)
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if !bytes.HasPrefix(plaintext, got) || len(got) == len(plaintext) {
				t.Errorf("%d bytes were released that are not a proper part of the plaintext", len(got))
			}
		})
	}
}

func TestDecryptStreamOtherContext(t *testing.T) {
	s := newSoftKeys()
	file := encrypted(t, s, []byte("secret"))
	for _, other := range []map[string]string{nil, {"tenant": "evil"}, {"tenant": "acme", "more": ""}} {
		var plaintext bytes.Buffer
		err := decryptStream(t.Context(), s, testKey(t).Namespace(), kms.KeyName{}, other, &plaintext,
			bytes.NewReader(file))
		if !errors.Is(err, kms.ErrDecryptionFailed) || plaintext.Len() > 0 {
			t.Errorf("context %v: %v, %d bytes", other, err, plaintext.Len())
		}
	}
}

var errDisk = errors.New("disk on fire")

// What was read before an error must not become a file that decrypts.
func TestEncryptStreamReadError(t *testing.T) {
	s := newSoftKeys()
	var file bytes.Buffer
	src := io.MultiReader(bytes.NewReader(pattern(1_500_000)), iotest.ErrReader(errDisk))
	err := encryptStream(t.Context(), s, testKey(t), tenant, &file, src)
	if !errors.Is(err, errDisk) {
		t.Fatalf("error %v", err)
	}
	if _, err := decrypted(t, s, file.Bytes()); !errors.Is(err, ErrStream) {
		t.Errorf("the rest decrypts: %v", err)
	}
}

// An error of reading or writing says nothing about the data, and must not look as if
// it did.
func TestDecryptStreamForeignErrors(t *testing.T) {
	s := newSoftKeys()
	file := encrypted(t, s, pattern(2_500_000))
	key := testKey(t)
	for _, at := range []int{0, 50, 150, 1_000_000, len(file) - 1} {
		src := io.MultiReader(bytes.NewReader(file[:at]), iotest.ErrReader(errDisk))
		err := decryptStream(t.Context(), s, key.Namespace(), key, tenant, io.Discard, src)
		if !errors.Is(err, errDisk) || errors.Is(err, ErrStream) || errors.Is(err, envelope.ErrMalformed) {
			t.Errorf("read error after %d bytes: %v", at, err)
		}
	}
	err := decryptStream(t.Context(), s, key.Namespace(), key, tenant, brokenWriter{}, bytes.NewReader(file))
	if !errors.Is(err, errDisk) || errors.Is(err, ErrStream) {
		t.Errorf("write error: %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errDisk }

func TestStreamCancelled(t *testing.T) {
	s := newSoftKeys()
	ctx, cancel := context.WithCancel(t.Context())
	src := io.MultiReader(bytes.NewReader(pattern(1_500_000)), readerFunc(func([]byte) (int, error) {
		cancel()
		return 0, nil
	}))
	err := encryptStream(ctx, s, testKey(t), nil, io.Discard, src)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// A service that answers nonsense gives an error and no file.
func TestEncryptStreamForeignService(t *testing.T) {
	wrapped, err := hex.DecodeString("00010203")
	if err != nil {
		t.Fatal(err)
	}
	for name, results := range map[string][]kms.DataKeyResult{
		"none":              {},
		"two":               make([]kms.DataKeyResult, 2),
		"not a wrapped key": {{DataKey: make(kms.Secret, 32), Wrapped: wrapped}},
		"failed item":       {{Err: kms.ErrVersionDisabled}},
	} {
		var file bytes.Buffer
		err := encryptStream(t.Context(), fixedKeys{results}, testKey(t), nil, &file, bytes.NewReader(nil))
		if err == nil || file.Len() > 0 {
			t.Errorf("%s: %v, %d bytes written", name, err, file.Len())
		}
	}
}

type fixedKeys struct{ results []kms.DataKeyResult }

func (f fixedKeys) GenerateDataKeys(context.Context, kms.Principal, *kms.GenerateDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	return f.results, nil
}

func (f fixedKeys) UnwrapDataKeys(context.Context, kms.Principal, *kms.UnwrapDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	return f.results, nil
}

func BenchmarkEncryptStream(b *testing.B) {
	s := newSoftKeys()
	plaintext := pattern(16 << 20)
	b.SetBytes(int64(len(plaintext)))
	for b.Loop() {
		err := encryptStream(b.Context(), s, testKey(b), nil, io.Discard, bytes.NewReader(plaintext))
		if err != nil {
			b.Fatal(err)
		}
	}
}
