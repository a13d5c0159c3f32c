package envelope

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// ErrMalformed is wrapped by every error of [Parse], [Append], [ParseFileHeader] and [AppendFileHeader]. The text that
// follows it says what is wrong with the bytes; it holds nothing secret.
var ErrMalformed = errors.New("malformed ciphertext")

// magic begins every blob.
const magic = "KH"

// Format says how a blob's ciphertext was made.
type Format uint8

const (
	// FormatDerived (1) is XAES-256-GCM: the HSM derives a key per item, the host runs AES-256-GCM under it.
	FormatDerived Format = 1
	// FormatStrict (2) is AES-256-GCM inside the HSM.
	FormatStrict Format = 2
)

// String returns the name of the algorithm, or the number if it is none of ours.
func (f Format) String() string {
	switch f {
	case FormatDerived:
		return "XAES-256-GCM"
	case FormatStrict:
		return "AES-256-GCM in the HSM"
	default:
		return fmt.Sprintf("format %d", uint8(f))
	}
}

// Kind says what a blob's plaintext is.
type Kind uint8

const (
	// KindData (1) is a caller's payload.
	KindData Kind = 1
	// KindWrappedKey (2) is a data key.
	KindWrappedKey Kind = 2
)

// String returns the kind in words, or the number if it is none of ours.
func (k Kind) String() string {
	switch k {
	case KindData:
		return "data"
	case KindWrappedKey:
		return "wrapped data key"
	default:
		return fmt.Sprintf("kind %d", uint8(k))
	}
}

// UID names a key version: 16 random bytes, the CKA_ID of the HSM object.
type UID [UIDSize]byte

// String returns 32 lower-case hexadecimal digits.
func (u UID) String() string { return hex.EncodeToString(u[:]) }

// Header is the part of a blob before the nonce: magic (2 bytes), format (1), kind (1), key version UID (16). It is
// authenticated as the beginning of the AAD.
type Header [HeaderSize]byte

// NewHeader lays out a header. It does not check format and kind; [Append] does.
func NewHeader(f Format, k Kind, uid UID) Header {
	var h Header
	copy(h[:], magic)
	h[2], h[3] = byte(f), byte(k)
	copy(h[4:], uid[:])
	return h
}

// Blob is one ciphertext. Nonce and Sealed as returned by [Parse] are views into the parsed bytes.
type Blob struct {
	Format Format
	Kind   Kind
	// UID names the one key version that opens the blob.
	UID UID
	// Nonce is 24 bytes in format 1, 12 or 16 in format 2.
	Nonce []byte
	// Sealed is the ciphertext followed by the 16-byte tag.
	Sealed []byte

	// parsed is what Nonce and Sealed are views of, if they lie side by side.
	parsed []byte
}

// Header returns the 20 bytes before the nonce.
func (b *Blob) Header() Header { return NewHeader(b.Format, b.Kind, b.UID) }

// body returns Nonce and Sealed in one piece: a view of the parsed bytes, unless they were set to something else.
func (b *Blob) body() []byte {
	n, m := len(b.Nonce), len(b.Sealed)
	if n > 0 && m > 0 && len(b.parsed) == n+m && &b.parsed[0] == &b.Nonce[0] && &b.parsed[n] == &b.Sealed[0] {
		return b.parsed
	}
	return slices.Concat(b.Nonce, b.Sealed)
}

// PlaintextSize returns the length of the plaintext, in bytes, of a blob that [Parse] returned.
func (b *Blob) PlaintextSize() int { return len(b.Sealed) - TagSize }

// Parse splits a blob without copying or decrypting it. It accepts exactly what [Append] writes:
//
//	magic "KH" | format | kind | key version UID (16) | nonce | ciphertext | tag (16)
//
// where the nonce is 24 bytes in format 1, and one length byte (12 or 16) followed by so many bytes in format 2.
// Everything after the nonce is ciphertext and tag: there is no trailing data to ignore. Errors wrap [ErrMalformed].
func Parse(p []byte) (Blob, error) {
	var b Blob
	if err := b.Parse(p); err != nil {
		return Blob{}, err
	}
	return b, nil
}

// Parse is the function Parse for a Blob that is there already. After an error b holds nothing to rely on.
func (b *Blob) Parse(p []byte) error {
	if len(p) < len(magic) || string(p[:len(magic)]) != magic {
		return malformed("it does not begin with %q", magic)
	}
	if len(p) < HeaderSize {
		return malformed("%d bytes, shorter than its header of %d", len(p), HeaderSize)
	}
	b.Format, b.Kind, b.UID = Format(p[2]), Kind(p[3]), UID(p[4:HeaderSize])
	rest := p[HeaderSize:]
	size := NonceSize
	if b.Format == FormatStrict {
		if len(rest) == 0 {
			return malformed("it ends before its nonce length")
		}
		size, rest = int(rest[0]), rest[1:]
	}
	if len(rest) < size {
		size = len(rest) // check names the first thing that is wrong, which may be the format
	}
	b.Nonce, b.Sealed, b.parsed = rest[:size:size], rest[size:len(rest):len(rest)], rest
	return b.check()
}

// Append appends the bytes of b to dst. It refuses, with an error that wraps [ErrMalformed], what [Parse] would not
// read back: a nonce length that a token made up must not become a ciphertext that nobody can open.
func Append(dst []byte, b Blob) ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	h := b.Header()
	dst = append(dst, h[:]...)
	if b.Format == FormatStrict {
		dst = append(dst, byte(len(b.Nonce)))
	}
	dst = append(dst, b.Nonce...)
	return append(dst, b.Sealed...), nil
}

// check holds the rules that Parse and Append share.
func (b *Blob) check() error {
	if b.Format != FormatDerived && b.Format != FormatStrict {
		return malformed("unknown format %d", uint8(b.Format))
	}
	if b.Kind != KindData && b.Kind != KindWrappedKey {
		return malformed("unknown kind %d", uint8(b.Kind))
	}
	if !b.nonceSizeValid() {
		return malformed("a nonce of %d bytes in %v", len(b.Nonce), b.Format)
	}
	if len(b.Sealed) < TagSize {
		return malformed("it ends within its tag: %d bytes after the nonce", len(b.Sealed))
	}
	if !plaintextSizeValid(b.Kind, b.PlaintextSize()) {
		return malformed("a plaintext of %d bytes for kind %q", b.PlaintextSize(), b.Kind)
	}
	return nil
}

func (b *Blob) nonceSizeValid() bool {
	if b.Format == FormatDerived {
		return len(b.Nonce) == NonceSize
	}
	return len(b.Nonce) == StrictNonceSizeShort || len(b.Nonce) == StrictNonceSizeLong
}

func plaintextSizeValid(k Kind, n int) bool {
	if k == KindWrappedKey {
		return DataKeySizeMin <= n && n <= DataKeySizeMax
	}
	return n <= MaxPlaintextSize
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
