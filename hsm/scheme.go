package hsm

import (
	"crypto"
	"fmt"
)

// Scheme is a signature scheme: what is signed, and how the signature looks. Values are
// never given another meaning.
type Scheme uint8

// The schemes. The zero value is none of them.
const (
	// ECDSA signs a digest (FIPS 186-5): 32 bytes with P-256, 48 with P-384, 64 with
	// P-521. The signature is r || s, each as long as a field element (32, 48, 66 bytes).
	ECDSA Scheme = 1
	// PureEd25519 signs a message (RFC 8032, section 5.1.6): 64 bytes, R || S.
	PureEd25519 Scheme = 2
	// PKCS1SHA256, PKCS1SHA384 and PKCS1SHA512 sign a digest of that hash with
	// RSASSA-PKCS1-v1_5 (RFC 8017, section 8.2).
	PKCS1SHA256 Scheme = 3
	PKCS1SHA384 Scheme = 4
	PKCS1SHA512 Scheme = 5
	// PSSSHA256, PSSSHA384 and PSSSHA512 sign a digest of that hash with RSASSA-PSS
	// (RFC 8017, section 8.1): MGF1 with the same hash, a salt as long as the digest.
	PSSSHA256 Scheme = 6
	PSSSHA384 Scheme = 7
	PSSSHA512 Scheme = 8
)

// MaxMessage is the most bytes of a message that is signed or authenticated inside the
// token.
const MaxMessage = 64 << 10

// Schemes returns every scheme, in the order of their values.
func Schemes() []Scheme {
	return []Scheme{ECDSA, PureEd25519, PKCS1SHA256, PKCS1SHA384, PKCS1SHA512, PSSSHA256, PSSSHA384, PSSSHA512}
}

// Valid reports whether s is one of the schemes.
func (s Scheme) Valid() bool { return s >= ECDSA && s <= PSSSHA512 }

// IsPSS reports whether the scheme is RSASSA-PSS.
func (s Scheme) IsPSS() bool { return s >= PSSSHA256 && s <= PSSSHA512 }

// Hash is the hash of the digests that an RSA scheme signs. It is zero for PureEd25519,
// which signs messages, and for ECDSA, whose hash is that of the key: see [KeySpec.Hash].
func (s Scheme) Hash() crypto.Hash {
	switch s {
	case PKCS1SHA256, PSSSHA256:
		return crypto.SHA256
	case PKCS1SHA384, PSSSHA384:
		return crypto.SHA384
	case PKCS1SHA512, PSSSHA512:
		return crypto.SHA512
	default:
		return 0
	}
}

// String returns the name of the scheme, such as "RSA_PSS_SHA256".
func (s Scheme) String() string {
	switch s {
	case ECDSA:
		return "ECDSA"
	case PureEd25519:
		return "ED25519"
	case PKCS1SHA256, PKCS1SHA384, PKCS1SHA512:
		return fmt.Sprintf("RSA_PKCS1_SHA%d", 8*s.Hash().Size())
	case PSSSHA256, PSSSHA384, PSSSHA512:
		return fmt.Sprintf("RSA_PSS_SHA%d", 8*s.Hash().Size())
	default:
		return "UNKNOWN_SCHEME"
	}
}

// CheckScheme is the check that every Sign begins with once it knows the key. The error
// is ErrArgument for what is no scheme, and ErrKeyNotPermitted for one that keys of the
// specification do not sign with.
func CheckScheme(spec KeySpec, scheme Scheme) error {
	if !scheme.Valid() {
		return fmt.Errorf("%w: signature scheme %d", ErrArgument, scheme)
	}
	if !spec.Has(scheme) {
		return fmt.Errorf("%w: a key of specification %s does not sign with %s", ErrKeyNotPermitted, spec, scheme)
	}
	return nil
}

// CheckSignInput is the check of what is to be signed: a digest of the right length, or a
// message of 1 to MaxMessage bytes. The error is ErrArgument.
func CheckSignInput(spec KeySpec, scheme Scheme, input []byte) error {
	hash := scheme.Hash()
	if scheme == ECDSA {
		hash = spec.Hash()
	}
	if hash == 0 {
		return CheckMessage(input)
	}
	if len(input) != hash.Size() {
		return fmt.Errorf("%w: a digest of %d bytes, %s with %s signs %d", ErrArgument, len(input), spec, scheme, hash.Size())
	}
	return nil
}

// CheckMessage is the check of a message that is signed or authenticated inside the
// token: 1 to MaxMessage bytes. The error is ErrArgument.
func CheckMessage(message []byte) error {
	if len(message) == 0 || len(message) > MaxMessage {
		return fmt.Errorf("%w: a message of %d bytes, want 1 to %d", ErrArgument, len(message), MaxMessage)
	}
	return nil
}
