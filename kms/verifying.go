package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyholt/keyholt/hsm"
)

// Verify tells whether a signature is that of a version of an ASYMMETRIC_SIGN key. It is
// computed on the host, with the public key in the version's sealed row: the token is not
// needed, and versions that cannot sign any more are answered for, too, with their state.
func (s *Service) Verify(ctx context.Context, p Principal, r *VerifyRequest) (*VerifyResult, error) {
	it, err := s.performKey(ctx, newKeyCall(p, ActionVerify, keyItem{
		named: namedKey{r.Key, r.Version}, digest: r.Digest, digestHash: r.DigestHash, message: nilIfEmpty(r.Message),
		given: r.Signature, format: r.Format.orDefault(),
	}, firstError(
		checkDigestOrMessage(r.Digest, r.DigestHash, r.Message), checkGiven("signature", r.Signature), r.Format.check(),
	)))
	if err != nil {
		return nil, err
	}
	v := it.version
	return &VerifyResult{Valid: it.valid, Version: v.Name, State: v.trustState(), Algorithm: v.algorithm}, nil
}

// trustState is the state that says what the public key of a version is worth: REVOKED
// stays so when the destruction of the version is scheduled.
func (v *versionEntry) trustState() State {
	if v.State == StateDestroyScheduled && v.RestoreTo == StateRevoked {
		return StateRevoked
	}
	return v.State
}

// verify verifies items under one version.
func (s *Service) verify(ctx context.Context, v *versionEntry, items []*keyItem) error {
	_, end := s.begin(ctx, PhaseHost)
	defer end()
	public, err := v.publicKey()
	if err != nil {
		return err
	}
	for _, it := range items {
		it.valid = verifies(public, v.algorithm, it.format, it.input, it.given)
	}
	return nil
}

// verifies reports whether signature, in the format, is one of input: a digest, or a
// message if the algorithm signs messages.
func verifies(public crypto.PublicKey, a Algorithm, format SignatureFormat, input, signature []byte) bool {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if format == SignatureRaw {
			var err error
			if len(signature) != a.OutputSize() {
				return false
			}
			if signature, err = derSignature(signature); err != nil {
				return false
			}
		}
		return ecdsa.VerifyASN1(key, input, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, input, signature)
	case *rsa.PublicKey:
		if a.IsPSS() {
			options := rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
			return rsa.VerifyPSS(key, a.Hash(), input, signature, &options) == nil
		}
		return rsa.VerifyPKCS1v15(key, a.Hash(), input, signature) == nil
	default:
		return false
	}
}

// derSignature makes an Ecdsa-Sig-Value (RFC 3279, section 2.2.3) of r || s.
func derSignature(raw []byte) ([]byte, error) {
	half := len(raw) / 2
	b := cryptobyte.NewBuilder(make([]byte, 0, len(raw)+maxDEROverhead))
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addDERInteger(b, raw[:half])
		addDERInteger(b, raw[half:])
	})
	return b.Bytes()
}

// maxDEROverhead is how much longer than r || s its Ecdsa-Sig-Value can be: three tags, a
// length of two bytes and two of one, and two signs.
const maxDEROverhead = 3 + 2 + 2 + 2

// addDERInteger adds a positive INTEGER: no leading zeros, but one byte of them where the
// first bit would be taken for a sign.
func addDERInteger(b *cryptobyte.Builder, bigEndian []byte) {
	for len(bigEndian) > 1 && bigEndian[0] == 0 {
		bigEndian = bigEndian[1:]
	}
	b.AddASN1(asn1.INTEGER, func(b *cryptobyte.Builder) {
		if bigEndian[0] >= 0x80 {
			b.AddUint8(0)
		}
		b.AddBytes(bigEndian)
	})
}

// publicKey is the public key of a pair, parsed once: the Check of a version never changes.
func (v *versionEntry) publicKey() (crypto.PublicKey, error) {
	if known := v.live.public.Load(); known != nil {
		return *known, nil
	}
	parsed, err := hsm.ParsePublicKey(v.keySpec(), v.Check)
	if err != nil {
		return nil, v.unavailable("its row holds no public key of " + v.algorithm.String())
	}
	public := crypto.PublicKey(parsed)
	v.live.public.Store(&public)
	return public, nil
}
