package kms

import "crypto"

// SignatureFormat is how a signature is written.
type SignatureFormat uint8

// The formats. The zero value is SignatureDER in requests.
const (
	// SignatureDER: of ECDSA the ASN.1 structure Ecdsa-Sig-Value (RFC 3279, section
	// 2.2.3) in DER, as X.509, TLS, OpenSSL and the cloud services have it. RSA signatures
	// are as long as the modulus (RFC 8017), those of Ed25519 are R || S (RFC 8032), in
	// both formats.
	SignatureDER SignatureFormat = 1
	// SignatureRaw: of ECDSA r || s, each as long as a field element (32, 48 or 66 bytes),
	// as IEEE P1363 and JSON Web Signature (RFC 7518, section 3.4) have it.
	SignatureRaw SignatureFormat = 2
)

// SignRequest asks for a signature of a digest or of a message: exactly one of the two.
type SignRequest struct {
	// Key or Version, exactly one: the key, whose primary version signs, or the version
	// itself. Any ENABLED version may be named: the same action allows it.
	Key     KeyName
	Version VersionName

	Digest []byte // of the message, by the hash of the key's algorithm
	// DigestHash says which hash made Digest; one that is not the algorithm's is refused. 0:
	// it is not said, and only the length is checked.
	DigestHash crypto.Hash
	Message    []byte // 1 to MaxMessage bytes
	Format     SignatureFormat
}

// SignResult is a signature and the version that made it.
type SignResult struct {
	Signature []byte
	Version   VersionName
	Algorithm Algorithm
	// Err is for results of BatchSign: nil if the item succeeded; else the other fields but
	// Version are zero.
	Err error
}

// BatchSignRequest asks for many signatures, which are spread over the sessions of the token.
type BatchSignRequest struct {
	Parent NamespaceName
	// Key or Version, at most one: for items that name none.
	Key     KeyName
	Version VersionName
	Items   []SignItem
	Format  SignatureFormat // of all signatures
}

// SignItem is one signature of a batch; the fields are as in SignRequest.
type SignItem struct {
	Key        KeyName
	Version    VersionName
	Digest     []byte
	DigestHash crypto.Hash
	Message    []byte
	// Invalid is as in DataKeyItem.
	Invalid error
}

// VerifyRequest asks whether a signature is good. Who verifies what an older version has
// signed names the version: a signature does not tell it.
type VerifyRequest struct {
	Key        KeyName // its primary version; or
	Version    VersionName
	Digest     []byte
	DigestHash crypto.Hash
	Message    []byte
	Signature  []byte // 1 to MaxSignature bytes
	Format     SignatureFormat
}

// VerifyResult tells whether a signature is that of a version. Valid is what the
// arithmetic says. What it is worth, State says: a signature of a version that is REVOKED
// may be anybody's.
type VerifyResult struct {
	Valid     bool
	Version   VersionName
	State     State // now: any but CREATING and DESTROYED
	Algorithm Algorithm
}

// PublicKeyFormat is how a public key is written.
type PublicKeyFormat uint8

// The formats. The zero value is PublicKeyPEM in requests.
const (
	PublicKeyPEM PublicKeyFormat = 1 // "PUBLIC KEY" of RFC 7468, section 13
	PublicKeyDER PublicKeyFormat = 2 // SubjectPublicKeyInfo of RFC 5280; RFC 5480, RFC 8410
	// PublicKeyJWK is a JSON Web Key (RFC 7517, RFC 8037) with "alg" and "use"; its "kid" is
	// the SHA-256 thumbprint (RFC 7638).
	PublicKeyJWK PublicKeyFormat = 3
)

// GetPublicKeyRequest asks for the public key of an ASYMMETRIC_SIGN or ASYMMETRIC_DECRYPT
// key.
type GetPublicKeyRequest struct {
	Key     KeyName // of its primary version; or
	Version VersionName
	Format  PublicKeyFormat
}

// PublicKey is the public key of a version.
type PublicKey struct {
	Key       []byte // as the format says
	Format    PublicKeyFormat
	CRC32C    uint32 // of Key: Castagnoli's polynomial (RFC 3720, appendix B.4)
	Version   VersionName
	State     State // now: any but CREATING and DESTROYED
	Algorithm Algorithm
}
