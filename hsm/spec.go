package hsm

import (
	"crypto"
	"slices"
)

// KeySpec says what kind of key an object is and the only thing it may do. Values are
// never given another meaning.
type KeySpec uint8

// The key specifications. The zero value is none of them. CKA_ALLOWED_MECHANISMS is set
// where the module knows the attribute.
const (
	// AES256Blocks is a 256-bit AES key that may do C_Encrypt with CKM_AES_ECB
	// and nothing else (CKA_ENCRYPT alone).
	AES256Blocks KeySpec = 1
	// AES256GCM is a 256-bit AES key that may do C_Encrypt and C_Decrypt with
	// CKM_AES_GCM and nothing else.
	AES256GCM KeySpec = 2

	// ECDSAP256, ECDSAP384 and ECDSAP521 are key pairs on the curves of FIPS 186-5 whose
	// private keys may do C_Sign with CKM_ECDSA.
	ECDSAP256 KeySpec = 3
	ECDSAP384 KeySpec = 4
	ECDSAP521 KeySpec = 5
	// Ed25519 is a key pair of RFC 8032 whose private key may do C_Sign with CKM_EDDSA.
	Ed25519 KeySpec = 6
	// RSA2048Sign, RSA3072Sign and RSA4096Sign are RSA key pairs, public exponent 65537,
	// whose private keys may do C_Sign with CKM_RSA_PKCS and CKM_RSA_PKCS_PSS.
	RSA2048Sign KeySpec = 7
	RSA3072Sign KeySpec = 8
	RSA4096Sign KeySpec = 9
	// RSA2048Decrypt, RSA3072Decrypt and RSA4096Decrypt are RSA key pairs whose private
	// keys may do C_Decrypt with CKM_RSA_PKCS_OAEP.
	RSA2048Decrypt KeySpec = 10
	RSA3072Decrypt KeySpec = 11
	RSA4096Decrypt KeySpec = 12

	// HMACSHA256, HMACSHA384 and HMACSHA512 are secrets as long as the hash (32, 48 and 64
	// bytes) that may do C_Sign with CKM_SHA256_HMAC, CKM_SHA384_HMAC or CKM_SHA512_HMAC.
	// They may not do C_Verify: a tag is verified by making it again.
	HMACSHA256 KeySpec = 13
	HMACSHA384 KeySpec = 14
	HMACSHA512 KeySpec = 15

	// RSA3072Import and RSA4096Import are RSA key pairs whose private keys may do
	// C_UnwrapKey with CKM_RSA_PKCS_OAEP and nothing else: what they decrypt stays in the
	// token. See [Importer].
	RSA3072Import KeySpec = 16
	RSA4096Import KeySpec = 17
)

// Usage is what keys of a specification are for.
type Usage uint8

// The usages. The zero value is none of them.
const (
	UsageBlocks  Usage = 1 // BlockCipher.EncryptBlocks
	UsageGCM     Usage = 2 // GCM
	UsageSign    Usage = 3 // Signer
	UsageDecrypt Usage = 4 // Decrypter
	UsageMAC     Usage = 5 // MAC
	UsageImport  Usage = 6 // Wrapped.By of an Importer
)

// specRow is what is fixed about a specification.
type specRow struct {
	name  string
	usage Usage
	pair  bool
	size  int // see KeySpec.Size
	hash  crypto.Hash
}

// specRows are the specifications, each at its own value.
var specRows = [...]specRow{
	AES256Blocks:   {"AES256_BLOCKS", UsageBlocks, false, 32, 0},
	AES256GCM:      {"AES256_GCM", UsageGCM, false, 32, 0},
	ECDSAP256:      {"ECDSA_P256", UsageSign, true, 32, crypto.SHA256},
	ECDSAP384:      {"ECDSA_P384", UsageSign, true, 48, crypto.SHA384},
	ECDSAP521:      {"ECDSA_P521", UsageSign, true, 66, crypto.SHA512},
	Ed25519:        {"ED25519", UsageSign, true, 32, 0},
	RSA2048Sign:    {"RSA2048_SIGN", UsageSign, true, 256, 0},
	RSA3072Sign:    {"RSA3072_SIGN", UsageSign, true, 384, 0},
	RSA4096Sign:    {"RSA4096_SIGN", UsageSign, true, 512, 0},
	RSA2048Decrypt: {"RSA2048_DECRYPT", UsageDecrypt, true, 256, 0},
	RSA3072Decrypt: {"RSA3072_DECRYPT", UsageDecrypt, true, 384, 0},
	RSA4096Decrypt: {"RSA4096_DECRYPT", UsageDecrypt, true, 512, 0},
	HMACSHA256:     {"HMAC_SHA256", UsageMAC, false, 32, crypto.SHA256},
	HMACSHA384:     {"HMAC_SHA384", UsageMAC, false, 48, crypto.SHA384},
	HMACSHA512:     {"HMAC_SHA512", UsageMAC, false, 64, crypto.SHA512},
	RSA3072Import:  {"RSA3072_IMPORT", UsageImport, true, 384, 0},
	RSA4096Import:  {"RSA4096_IMPORT", UsageImport, true, 512, 0},
}

// KeySpecs returns every specification, in the order of their values.
func KeySpecs() []KeySpec {
	specs := make([]KeySpec, 0, len(specRows)-1)
	for i := 1; i < len(specRows); i++ {
		specs = append(specs, KeySpec(i))
	}
	return specs
}

// row is the zero row for what is no specification.
func (s KeySpec) row() specRow {
	if int(s) < len(specRows) {
		return specRows[s]
	}
	return specRow{}
}

// Valid reports whether s is one of the specifications.
func (s KeySpec) Valid() bool { return s.row().usage != 0 }

// String returns the name of the specification, such as "RSA2048_SIGN".
func (s KeySpec) String() string {
	if !s.Valid() {
		return "UNKNOWN_KEY_SPEC"
	}
	return s.row().name
}

// Usage is what keys of the specification are for; zero if s is none.
func (s KeySpec) Usage() Usage { return s.row().usage }

// IsPair reports whether such a key is a key pair: two objects with one CKA_ID.
func (s KeySpec) IsPair() bool { return s.row().pair }

// IsRSA reports whether such a key is an RSA key pair.
func (s KeySpec) IsRSA() bool { return s.IsPair() && s.Size() >= 256 }

// Size is the length in bytes of a secret key, of an RSA modulus, of an ECDSA field
// element, or of an Ed25519 key.
func (s KeySpec) Size() int { return s.row().size }

// Hash is the hash of an HMAC key, and that of the digests which an ECDSA key signs
// (SHA-256 for P-256, SHA-384 for P-384, SHA-512 for P-521); zero for all others.
func (s KeySpec) Hash() crypto.Hash { return s.row().hash }

// Schemes are the signature schemes of the specification, whatever a token has of them.
func (s KeySpec) Schemes() []Scheme {
	switch {
	case s.Usage() != UsageSign:
		return nil
	case s.IsRSA():
		return []Scheme{PKCS1SHA256, PKCS1SHA384, PKCS1SHA512, PSSSHA256, PSSSHA384, PSSSHA512}
	case s == Ed25519:
		return []Scheme{PureEd25519}
	default:
		return []Scheme{ECDSA}
	}
}

// OutputSize is the length in bytes of a signature or tag of the specification; zero for
// keys that make none.
func (s KeySpec) OutputSize() int {
	switch {
	case s.Usage() == UsageMAC:
		return s.Hash().Size()
	case s.Usage() != UsageSign:
		return 0
	case s.IsRSA():
		return s.Size()
	default: // r || s (ECDSA), R || S (RFC 8032)
		return 2 * s.Size()
	}
}

// Has reports whether keys of the specification sign with the scheme.
func (s KeySpec) Has(scheme Scheme) bool { return slices.Contains(s.Schemes(), scheme) }
