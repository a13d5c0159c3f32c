package hsm

import (
	"context"
	"crypto"
)

// Token is one logged-in token: what it computes, which key objects it holds, and
// how it is.
//
// Every method returns an error that matches exactly one sentinel of this package
// with errors.Is, or the context's own error. A call that has entered the module
// cannot be cancelled: the context bounds waiting (for a session, between the
// pieces of a long request), and an implementation keeps each single crossing
// short.
type Token interface {
	BlockCipher
	GCM
	Signer
	MAC
	Decrypter
	Objects
	PublicKeys
	Importer
	Random

	// Info returns what the probe at start found. It does not call the module.
	Info() Info

	// Check asks the token whether it is present and logged in, with the cheapest
	// call that answers. Errors: ErrUnavailable, ErrLoginLost, ErrClosed.
	Check(ctx context.Context) error

	// Close logs out and ends the module after the calls in flight have returned.
	// Later calls fail with ErrClosed. Close is idempotent.
	Close() error
}

// BlockCipher is the hot path: raw AES blocks under an [AES256Blocks] key.
type BlockCipher interface {
	// EncryptBlocks writes AES-256-ECB(key, src) to dst. len(src) is a positive
	// multiple of BlockSize and len(dst) >= len(src); dst and src are the same
	// slice or do not overlap. Requests longer than Info().MaxBlockBytes are cut
	// into several token calls. On an error the content of dst is unspecified.
	//
	// Errors: ErrArgument, ErrKeyNotFound, ErrKeyNotPermitted, ErrUnavailable, ErrClosed.
	EncryptBlocks(ctx context.Context, key UID, dst, src []byte) error
}

// GCM runs AES-256-GCM inside the token, one operation per item, under an
// [AES256GCM] key. Tags are 16 bytes (SP 800-38D).
type GCM interface {
	// Seal encrypts each item. The nonce is the token's choice where the token
	// insists on it (12 or 16 bytes), else 12 bytes from the operating system; it
	// never is the caller's. Outcomes are per item, in SealItem.Err; the returned
	// error is for what concerns all items (a missing key, a lost token), and then
	// no item was sealed.
	Seal(ctx context.Context, key UID, items []SealItem) error

	// Open decrypts each item. Outcomes are per item, in OpenItem.Err: a failed
	// authentication is ErrAuthentication and nothing else. The returned error is
	// for what concerns all items.
	Open(ctx context.Context, key UID, items []OpenItem) error
}

// SealItem is one encryption. The caller sets the first two fields; Seal sets the
// others, which are nil when Err is set or Seal returned an error.
type SealItem struct {
	Plaintext []byte
	AAD       []byte // at least one byte: modules differ in what they do with none; else Err is ErrArgument

	Nonce  []byte // 12 or 16 bytes
	Sealed []byte // ciphertext || 16-byte tag
	Err    error
}

// OpenItem is one decryption. The caller sets the first three fields; Open sets the
// others. Plaintext is nil when Err is set or Open returned an error.
type OpenItem struct {
	Nonce  []byte // 12 or 16 bytes
	Sealed []byte // ciphertext || 16-byte tag
	AAD    []byte // at least one byte

	Plaintext []byte
	Err       error
}

// Signer makes signatures inside the token, with the private keys of specifications whose
// Usage is UsageSign. Verifying is the caller's, with the public key.
type Signer interface {
	// Sign returns a signature of input, a digest or a message as the scheme says.
	//
	// Errors: ErrArgument for the scheme and the input; ErrKeyNotPermitted also for a
	// scheme that is not one of the key's; ErrUnsupported for one that this token does not
	// have (see Info().Schemes).
	Sign(ctx context.Context, key UID, scheme Scheme, input []byte) ([]byte, error)

	// SignBatch signs each item, spread over the token's sessions. Outcomes are per item,
	// in SignItem.Err; the returned error is for what concerns all items, and then no item
	// has a signature.
	SignBatch(ctx context.Context, key UID, scheme Scheme, items []SignItem) error
}

// SignItem is one signature. The caller sets Input; SignBatch sets the others. Signature
// is nil when Err is set or SignBatch returned an error.
type SignItem struct {
	Input []byte

	Signature []byte
	Err       error
}

// MAC computes HMAC (FIPS 198-1) inside the token, under keys of specifications whose
// Usage is UsageMAC. Whoever verifies a tag makes it again and compares in constant time
// (crypto/hmac.Equal): a token's C_Verify promises no constant time, costs the same, and
// would be one more thing that the key may do.
type MAC interface {
	// MAC returns the whole tag of a message of 1 to MaxMessage bytes.
	MAC(ctx context.Context, key UID, message []byte) ([]byte, error)

	// MACBatch computes the tag of each item, spread over the token's sessions. Outcomes
	// are per item, as in Signer.SignBatch.
	MACBatch(ctx context.Context, key UID, items []MACItem) error
}

// MACItem is one tag. The caller sets Message; MACBatch sets the others. Tag is nil when
// Err is set or MACBatch returned an error.
type MACItem struct {
	Message []byte

	Tag []byte
	Err error
}

// Decrypter decrypts inside the token, padding included, with the private keys of
// specifications whose Usage is UsageDecrypt.
type Decrypter interface {
	// DecryptOAEP is RSAES-OAEP decryption (RFC 8017, section 7.1.2) with the given hash,
	// MGF1 with the same, and a label, which may be empty. What it returns is the
	// caller's to wipe.
	//
	// Errors: ErrArgument for a hash that is not one of OAEPHashes, and for a ciphertext
	// that is not as long as the modulus; ErrUnsupported for a hash or a label that this
	// token does not take (see Info().OAEP and Info().OAEPLabels). Everything else that
	// is wrong with a ciphertext is ErrAuthentication, and nothing in the error tells
	// what (RFC 8017, section 7.1.2, note). How long it takes to say so is the token's:
	// nothing is promised about it.
	DecryptOAEP(ctx context.Context, key UID, hash crypto.Hash, ciphertext, label []byte) ([]byte, error)
}

// PublicKeys are the public halves of key pairs.
type PublicKeys interface {
	// PublicKey returns the public key of a pair as the token has it, as DER of a PKIX
	// SubjectPublicKeyInfo (RFC 5280; RFC 5480 for ECDSA, RFC 8410 for Ed25519). It asks
	// the token anew, whatever the state of the private key.
	//
	// Errors: ErrKeyNotPermitted for a key that is no pair of our specifications;
	// ErrKeyNotFound also for a pair whose public key object is gone.
	PublicKey(ctx context.Context, key UID) ([]byte, error)
}

// Importer brings keys in that were made elsewhere.
type Importer interface {
	// UnwrapKey makes a token object of a wrapped key, in two steps inside the token:
	// RSA-OAEP yields an AES-256 key, a session object that is destroyed whatever happens,
	// and AES key wrap with padding (RFC 5649) under that key yields the key itself. The
	// object has CKA_ID uid and the attributes that GenerateKey would give it; but
	// CKA_LOCAL, CKA_ALWAYS_SENSITIVE and CKA_NEVER_EXTRACTABLE are false, by which an
	// imported key is known for ever. The attributes are read back, and for a pair a
	// signature or a decryption shows that its public key belongs to it; an object that
	// is weaker or does not fit is destroyed.
	//
	// Errors: ErrKeyExists if the token holds uid; ErrKeyNotFound and ErrKeyNotPermitted
	// for w.By; ErrUnsupported for a specification or hash that this token cannot import
	// (see Info().Imports and Info().ImportHashes); ErrAuthentication for a wrapping that
	// does not open, in one way whatever the reason; ErrArgument for a malformed request.
	// A key that is not of the specification is ErrArgument where the token opens it, and
	// else, since tokens look at what they unwrap, ErrAuthentication.
	UnwrapKey(ctx context.Context, uid UID, label string, spec KeySpec, w Wrapped) (Object, error)
}

// Wrapped is a key that was wrapped for a token, as cloud services do it
// (RSA-OAEP and AES-KWP, CKM_RSA_AES_KEY_WRAP of PKCS#11 v2.40).
type Wrapped struct {
	By   UID         // the wrapping key: a pair whose Usage is UsageImport
	Hash crypto.Hash // of RSA-OAEP, one of OAEPHashes; the label is empty
	// Key is an AES-256 key, encrypted with RSA-OAEP: as long as the modulus of By.
	Key []byte
	// Value is the key, wrapped under Key with AES key wrap with padding (RFC 5649): the
	// bytes of a secret key, or the PKCS#8 PrivateKeyInfo (RFC 5208) of a pair.
	Value []byte
	// PublicKey is the PKIX SubjectPublicKeyInfo of a pair, DER. If empty it is found out:
	// from the modulus that the token reports, or, for ECDSA, from two signatures. An
	// Ed25519 key needs it.
	PublicKey []byte
}

// MaxWrapped is the most bytes of Wrapped.Value: an RSA-4096 key has about 2,400.
const MaxWrapped = 8 << 10

// Objects are the keys of a token, each named by its UID, which is the CKA_ID of its
// object. A key pair is two objects with one CKA_ID, and one key.
type Objects interface {
	// GenerateKey makes a key or key pair inside the token as token objects with CKA_ID
	// uid and the given CKA_LABEL: sensitive, not extractable, not copyable, allowed
	// what its spec needs and nothing else. The attributes are read back, and an
	// object that the token made weaker than asked for is destroyed and refused
	// with ErrUnsupported. ErrKeyExists if the token already holds uid.
	GenerateKey(ctx context.Context, uid UID, label string, spec KeySpec) (Object, error)

	// ImportSessionKey brings a known key in as a session object: it is gone when
	// the token is closed, and no other process can use it. It exists for known
	// answer tests only. The value is as long as the spec's Size. ErrUnsupported where
	// the token does not allow it, and for key pairs.
	ImportSessionKey(ctx context.Context, uid UID, spec KeySpec, value []byte) error

	// Keys enumerates the keys that have a 16-byte CKA_ID, in no particular order,
	// asking the token anew. What is left of a pair is one of them, without a Spec.
	Keys(ctx context.Context) ([]Object, error)

	// Key reads the attributes of one key anew. ErrKeyNotFound if there is none.
	Key(ctx context.Context, uid UID) (Object, error)

	// SetUsable turns the usage attributes that the key's spec allows on or off
	// (CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN or CKA_UNWRAP of the secret or private key).
	// Turning off what is off is no error.
	// ErrUnsupported where the module cannot change them.
	SetUsable(ctx context.Context, uid UID, usable bool) error

	// SetLabel gives the object, or both of a pair, another CKA_LABEL, and reads it back. A label that
	// the object has already is not written. ErrKeyNotFound if the token holds no
	// object uid; ErrUnsupported where the module cannot change labels, and for an
	// object of none of our specifications.
	SetLabel(ctx context.Context, uid UID, label string) error

	// DestroyKey destroys the object, both of a pair, or a session key of this Token,
	// and looks again to see that it is gone. ErrKeyNotFound if there is none.
	DestroyKey(ctx context.Context, uid UID) error
}

// Random is the token's random number generator.
type Random interface {
	// Random fills p with C_GenerateRandom.
	Random(ctx context.Context, p []byte) error
}

// BlockSize is the block size of AES in bytes.
const BlockSize = 16

// TagSize is the size of a GCM tag in bytes.
const TagSize = 16
