package envelope

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
)

// Layout of an encrypted file.
const (
	// fileMagic begins every encrypted file.
	fileMagic = "KEYHOLT"
	// fileVersion is the only version there is.
	fileVersion = 1

	// FileIDSize is the length of the random file id, in bytes.
	FileIDSize = 16
	// FilePrefixSize is the length of magic, version and file id: what stays the same for a file's life.
	FilePrefixSize = len(fileMagic) + 1 + FileIDSize
	// FileKeySize is the length of the data key of a file, in bytes: the main key of the stream.
	FileKeySize = 32
	// FileHeaderMaxSize is the length of the longest header, in bytes. Every complete file is longer than that (the
	// shortest header and the shortest stream are 163 bytes together), so a reader may peek so many bytes, then parse.
	FileHeaderMaxSize = FilePrefixSize + 2 + DerivedOverhead + FileKeySize
	// FileSegmentSize is the length of a full ciphertext segment of the stream, in bytes. The first one is shorter by
	// the stream's own header, so that segments end at multiples of it, counted from the start of the stream.
	FileSegmentSize = 1 << 20
)

// FileID names an encrypted file: 16 random bytes, chosen once, kept by every rewrap.
type FileID [FileIDSize]byte

// NewFileID draws a file id from the operating system.
func NewFileID() FileID {
	var id FileID
	_, _ = rand.Read(id[:]) // never fails: crypto/rand stops the program instead
	return id
}

// String returns 32 lower-case hexadecimal digits.
func (id FileID) String() string { return hex.EncodeToString(id[:]) }

// Prefix returns magic, version and file id, the first 24 bytes of the file. They are used twice: as the associated
// data of the stream, and as the additional authenticated data under which the data key is wrapped and rewrapped. So
// neither the stream nor the wrapped key can be moved to another file, and the wrapped key can be replaced without
// touching the stream.
func (id FileID) Prefix() [FilePrefixSize]byte {
	var p [FilePrefixSize]byte
	n := copy(p[:], fileMagic)
	p[n] = fileVersion
	copy(p[n+1:], id[:])
	return p
}

// FileHeader is what precedes the stream in an encrypted file.
type FileHeader struct {
	ID FileID
	// WrappedKey is a blob of kind [KindWrappedKey] that holds [FileKeySize] bytes. As returned by [ParseFileHeader]
	// it is a view into the parsed bytes.
	WrappedKey []byte
}

// ParseFileHeader reads the header at the beginning of p, which may go on, and returns its length: the stream begins
// there. Layout:
//
//	magic "KEYHOLT" (7) | version 1 (1) | file id (16) | length of the wrapped key, 16-bit big endian (2) | wrapped key
//
// Errors wrap [ErrMalformed]; a p shorter than the header is malformed too.
func ParseFileHeader(p []byte) (FileHeader, int, error) {
	if len(p) < len(fileMagic) || string(p[:len(fileMagic)]) != fileMagic {
		return FileHeader{}, 0, malformed("not a Keyholt file: it does not begin with %q", fileMagic)
	}
	if len(p) < FilePrefixSize+2 {
		return FileHeader{}, 0, malformed("the file ends within its header, after %d bytes", len(p))
	}
	if version := p[len(fileMagic)]; version != fileVersion {
		return FileHeader{}, 0, malformed("file version %d, want %d", version, fileVersion)
	}
	size := int(binary.BigEndian.Uint16(p[FilePrefixSize:]))
	rest := p[FilePrefixSize+2:]
	if err := checkFileKeySize(size); err != nil {
		return FileHeader{}, 0, err
	}
	if len(rest) < size {
		return FileHeader{}, 0, malformed("the file ends within its wrapped key, after %d bytes", len(p))
	}
	h := FileHeader{ID: FileID(p[len(fileMagic)+1 : FilePrefixSize]), WrappedKey: rest[:size:size]}
	if err := h.check(); err != nil {
		return FileHeader{}, 0, err
	}
	return h, FilePrefixSize + 2 + size, nil
}

// AppendFileHeader appends the bytes of h to dst. It refuses, with an error that wraps [ErrMalformed], a wrapped key
// that [ParseFileHeader] would not read back.
func AppendFileHeader(dst []byte, h FileHeader) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	prefix := h.ID.Prefix()
	dst = append(dst, prefix[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(h.WrappedKey)))
	return append(dst, h.WrappedKey...), nil
}

func (h *FileHeader) check() error {
	if err := checkFileKeySize(len(h.WrappedKey)); err != nil {
		return err
	}
	b, err := Parse(h.WrappedKey)
	if err != nil {
		return err
	}
	if b.Kind != KindWrappedKey || b.PlaintextSize() != FileKeySize {
		return malformed("a file needs a wrapped data key of %d bytes, not %d bytes of kind %q",
			FileKeySize, b.PlaintextSize(), b.Kind)
	}
	return nil
}

// checkFileKeySize knows the lengths of a wrapped 32-byte key in every format, so that a length from a damaged file is
// refused before anything is read for it.
func checkFileKeySize(n int) error {
	switch n {
	case FileKeySize + DerivedOverhead, FileKeySize + StrictOverheadShort, FileKeySize + StrictOverheadLong:
		return nil
	}
	return malformed("a wrapped key of %d bytes", n)
}
