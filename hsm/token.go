package hsm

import "context"

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
	Objects
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

// Objects are the key objects of a token, each named by its UID, which is its CKA_ID.
type Objects interface {
	// GenerateKey makes a key inside the token as a token object with CKA_ID uid
	// and the given CKA_LABEL: sensitive, not extractable, not copyable, allowed
	// what its spec needs and nothing else. The attributes are read back, and an
	// object that the token made weaker than asked for is destroyed and refused
	// with ErrUnsupported. ErrKeyExists if the token already holds uid.
	GenerateKey(ctx context.Context, uid UID, label string, spec KeySpec) (Object, error)

	// ImportSessionKey brings a known key in as a session object: it is gone when
	// the token is closed, and no other process can use it. It exists for known
	// answer tests only. ErrUnsupported where the token does not allow it.
	ImportSessionKey(ctx context.Context, uid UID, spec KeySpec, value []byte) error

	// Keys enumerates the secret-key token objects that have a 16-byte CKA_ID, in
	// no particular order, asking the token anew.
	Keys(ctx context.Context) ([]Object, error)

	// Key reads the attributes of one object anew. ErrKeyNotFound if there is none.
	Key(ctx context.Context, uid UID) (Object, error)

	// SetUsable turns the usage attributes that the object's spec allows on or
	// off (CKA_ENCRYPT, CKA_DECRYPT). Turning off what is off is no error.
	// ErrUnsupported where the module cannot change them.
	SetUsable(ctx context.Context, uid UID, usable bool) error

	// SetLabel gives the object another CKA_LABEL, and reads it back. A label that
	// the object has already is not written. ErrKeyNotFound if the token holds no
	// object uid; ErrUnsupported where the module cannot change labels, and for an
	// object of none of our specifications.
	SetLabel(ctx context.Context, uid UID, label string) error

	// DestroyKey destroys the object, or a session key of this Token, and looks
	// again to see that it is gone. ErrKeyNotFound if there is none.
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
