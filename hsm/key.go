package hsm

import "encoding/hex"

// UID names a key object: 16 random bytes, the object's CKA_ID.
type UID [16]byte

// String returns the UID as 32 lower-case hexadecimal digits.
func (u UID) String() string { return hex.EncodeToString(u[:]) }

// KeySpec says what kind of key an object is and the only thing it may do.
type KeySpec uint8

// The key specifications. The zero value is none of them.
const (
	// AES256Blocks is a 256-bit AES key that may do C_Encrypt with CKM_AES_ECB
	// and nothing else (CKA_ENCRYPT alone; CKA_ALLOWED_MECHANISMS = {CKM_AES_ECB}
	// where the module knows the attribute).
	AES256Blocks KeySpec = 1 + iota
	// AES256GCM is a 256-bit AES key that may do C_Encrypt and C_Decrypt with
	// CKM_AES_GCM and nothing else.
	AES256GCM
)

// String returns the name of the specification.
func (s KeySpec) String() string {
	switch s {
	case AES256Blocks:
		return "AES256_BLOCKS"
	case AES256GCM:
		return "AES256_GCM"
	default:
		return "UNKNOWN_KEY_SPEC"
	}
}

// Object is what the token itself says of one key object. A host that is
// compromised can say anything: these are reports, not proofs.
type Object struct {
	UID   UID
	Label string
	// Spec is zero for an object that was not made to one of our specifications.
	Spec KeySpec
	// Usable tells that the usage attributes of the specification are on.
	Usable bool

	Sensitive        bool // CKA_SENSITIVE
	Extractable      bool // CKA_EXTRACTABLE
	AlwaysSensitive  bool // CKA_ALWAYS_SENSITIVE
	NeverExtractable bool // CKA_NEVER_EXTRACTABLE
	Local            bool // CKA_LOCAL; some modules never set it
	Modifiable       bool // CKA_MODIFIABLE
	Copyable         bool // CKA_COPYABLE; true where the module ignores the attribute
	// Mechanisms are the names of CKA_ALLOWED_MECHANISMS; nil where the object
	// has no such list and so allows every mechanism that its usage permits.
	Mechanisms []string
}
