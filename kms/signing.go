package kms

import (
	"context"
	"crypto"

	"github.com/keyholt/keyholt/hsm"
)

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
	Valid   bool
	Version VersionName
	// State is the state now: any but CREATING and DESTROYED. Of a version that was REVOKED
	// and is to be destroyed it is REVOKED.
	State     State
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
	State     State // as in VerifyResult
	Algorithm Algorithm
}

// String returns the format's name.
func (f SignatureFormat) String() string {
	switch f {
	case SignatureDER:
		return "DER"
	case SignatureRaw:
		return "RAW"
	default:
		return "SIGNATURE_FORMAT_UNSPECIFIED"
	}
}

// orDefault is the format that is meant if none is said.
func (f SignatureFormat) orDefault() SignatureFormat {
	if f == 0 {
		return SignatureDER
	}
	return f
}

func (f SignatureFormat) check() error {
	return checkChoice("signature_format", f.orDefault() == SignatureDER || f == SignatureRaw)
}

// Sign returns a signature by a version of an ASYMMETRIC_SIGN key. Errors, beside those of
// all operations: ErrPurpose, ErrDigestLength, ErrHashMismatch.
func (s *Service) Sign(ctx context.Context, p Principal, r *SignRequest) (*SignResult, error) {
	it, err := s.performKey(ctx, newKeyCall(p, ActionSign, keyItem{
		named: namedKey{r.Key, r.Version}, digest: r.Digest, digestHash: r.DigestHash, message: nilIfEmpty(r.Message),
		format: r.Format.orDefault(),
	}, firstError(checkDigestOrMessage(r.Digest, r.DigestHash, r.Message), r.Format.check())))
	if err != nil {
		return nil, err
	}
	return it.signature(), nil
}

// BatchSign returns many signatures. The token makes them in as many sessions as it has.
func (s *Service) BatchSign(ctx context.Context, p Principal, r *BatchSignRequest) ([]SignResult, error) {
	c := newKeyBatch(p, ActionBatchSign, r.Parent, namedKey{r.Key, r.Version}, len(r.Items), func(i int) (keyItem, error) {
		from := &r.Items[i]
		return keyItem{
			named: namedKey{from.Key, from.Version}, digest: from.Digest, digestHash: from.DigestHash,
			message: nilIfEmpty(from.Message), format: r.Format.orDefault(),
		}, firstError(from.Invalid, checkDigestOrMessage(from.Digest, from.DigestHash, from.Message))
	})
	c.invalid = firstError(c.invalid, r.Format.check())
	if err := s.performData(ctx, c); err != nil {
		return nil, err
	}
	results := make([]SignResult, len(c.items))
	for i := range c.items {
		results[i] = *c.items[i].signature()
	}
	return results, nil
}

func (it *keyItem) signature() *SignResult {
	if it.err != nil {
		return &SignResult{Version: nameOf(it.version), Err: it.err}
	}
	return &SignResult{Signature: it.output, Version: it.version.Name, Algorithm: it.version.algorithm}
}

// sign has the token sign items under one version.
func (s *Service) sign(ctx context.Context, v *versionEntry, items []*keyItem) error {
	ctx, end := s.begin(ctx, PhaseCipher)
	defer end()
	scheme := v.algorithm.row().scheme
	if len(items) == 1 {
		signature, err := s.token.Sign(ctx, v.UID, scheme, items[0].input)
		if err != nil {
			return tokenError(err, "sign")
		}
		return items[0].keepSignature(signature)
	}
	batch := make([]hsm.SignItem, len(items))
	for i, it := range items {
		batch[i].Input = it.input
	}
	if err := s.token.SignBatch(ctx, v.UID, scheme, batch); err != nil {
		return tokenError(err, "sign")
	}
	for i, it := range items {
		if it.err = batch[i].Err; it.err != nil {
			it.err = tokenError(it.err, "sign")
			continue
		}
		it.err = it.keepSignature(batch[i].Signature)
	}
	return nil
}

// keepSignature writes a signature of the token in the format that was asked for.
func (it *keyItem) keepSignature(signature []byte) error {
	a := it.version.algorithm
	if len(signature) != a.OutputSize() {
		return errorf(ErrUnsupported, "the token made a signature of another length than %s has", a)
	}
	if it.format == SignatureDER && a.row().scheme == hsm.ECDSA {
		der, err := derSignature(signature)
		if err != nil {
			return errorf(ErrUnsupported, "the token made a signature that cannot be encoded").because(err)
		}
		signature = der
	}
	it.output = signature
	return nil
}

func nilIfEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
