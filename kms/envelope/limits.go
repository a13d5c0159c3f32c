package envelope

// Sizes of the fixed parts of a blob, in bytes.
const (
	// HeaderSize is the length of magic, format, kind and key version UID: what is authenticated of the header.
	HeaderSize = 20
	// UIDSize is the length of a key version UID.
	UIDSize = 16
	// NonceSize is the nonce length of XAES-256-GCM (C2SP XAES-256-GCM).
	NonceSize = 24
	// TagSize is the length of the GCM authentication tag (NIST SP 800-38D, section 5.2.1.2, the full 128 bits).
	TagSize = 16
	// StrictNonceSizeShort and StrictNonceSizeLong are the two nonce lengths of format 2: the 96 bits that
	// NIST SP 800-38D recommends, and the 128 bits that some tokens insist on.
	StrictNonceSizeShort = 12
	StrictNonceSizeLong  = 16

	// DerivedOverhead is what format 1 adds to a plaintext: a wrapped 32-byte data key is 92 bytes.
	DerivedOverhead = HeaderSize + NonceSize + TagSize
	// StrictOverheadShort and StrictOverheadLong are what format 2 adds, by nonce length.
	StrictOverheadShort = HeaderSize + 1 + StrictNonceSizeShort + TagSize
	StrictOverheadLong  = HeaderSize + 1 + StrictNonceSizeLong + TagSize
)

// Limits of the format. A service may be configured to accept less, never more: a blob beyond them does not parse.
const (
	// DataKeySizeMin and DataKeySizeMax bound the plaintext of a wrapped data key, in bytes.
	DataKeySizeMin = 16
	DataKeySizeMax = 64
	// MaxPlaintextSize bounds the plaintext of a data blob, in bytes. An empty plaintext is allowed.
	MaxPlaintextSize = 64 << 10
	// MaxBlobSize is the length of the longest blob that parses.
	MaxBlobSize = DerivedOverhead + MaxPlaintextSize

	// MaxContextPairs bounds the pairs of an encryption context, reserved ones included.
	MaxContextPairs = 64
	// MaxContextSize bounds the bytes of all context keys and values together, without their length prefixes.
	MaxContextSize = 8 << 10
	// MaxAdditionalDataSize bounds the caller's additional authenticated data, in bytes.
	MaxAdditionalDataSize = 64 << 10
)
