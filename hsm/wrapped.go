package hsm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
)

// leastExponent is the least public exponent of an imported RSA key (FIPS 186-5, A.1.1).
const leastExponent = 65537

// CheckWrapped is the check of arguments that every UnwrapKey begins with, as far as the
// wrapping key is not needed for it. It returns the public key that came with the request,
// an *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey; nil if none did. The error is
// ErrArgument, or ErrUnsupported for specifications that are never imported.
func CheckWrapped(spec KeySpec, w *Wrapped) (any, error) {
	switch {
	case !spec.Valid():
		return nil, fmt.Errorf("%w: key specification %d", ErrArgument, spec)
	case spec.Usage() == UsageImport:
		return nil, fmt.Errorf("%w: a wrapping key is made in the token, not imported", ErrUnsupported)
	case !slices.Contains(OAEPHashes(), w.Hash):
		return nil, fmt.Errorf("%w: RSA-OAEP with %v", ErrArgument, w.Hash)
	case len(w.Value) < 16 || len(w.Value) > MaxWrapped || len(w.Value)%8 != 0: // RFC 5649, section 4.1
		return nil, fmt.Errorf("%w: a wrapped key of %d bytes", ErrArgument, len(w.Value))
	case !spec.IsPair() && len(w.Value) != spec.Size()+8:
		return nil, fmt.Errorf("%w: a wrapped key of %d bytes, of %s it has %d", ErrArgument, len(w.Value), spec, spec.Size()+8)
	case len(w.PublicKey) == 0 && spec == Ed25519:
		return nil, fmt.Errorf("%w: an Ed25519 key is imported with its public key", ErrArgument)
	case len(w.PublicKey) == 0:
		return nil, nil
	case !spec.IsPair():
		return nil, fmt.Errorf("%w: %s has no public key", ErrArgument, spec)
	default:
		return ParsePublicKey(spec, w.PublicKey)
	}
}

// ParsePublicKey parses a PKIX SubjectPublicKeyInfo, DER, that is to belong to a pair of the
// specification: its type, its size, and for RSA an exponent of 65537 or more. The encoding
// must be the one that PublicKey would return. The error is ErrArgument.
func ParsePublicKey(spec KeySpec, der []byte) (any, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: the public key: %w", ErrArgument, err)
	}
	if err := CheckPublicKey(spec, public); err != nil {
		return nil, err
	}
	if again, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(der, again) {
		return nil, fmt.Errorf("%w: the public key is encoded in an unusual way", ErrArgument)
	}
	return public, nil
}

// CheckPublicKey checks what ParsePublicKey does of a key that is parsed.
func CheckPublicKey(spec KeySpec, public any) error {
	fits := false
	switch key := public.(type) {
	case *rsa.PublicKey:
		fits = spec.IsRSA() && key.N.BitLen() == 8*spec.Size() && key.E >= leastExponent && key.E%2 == 1
	case *ecdsa.PublicKey:
		fits = spec.Has(ECDSA) && (key.Params().BitSize+7)/8 == spec.Size()
	case ed25519.PublicKey:
		fits = spec == Ed25519
	}
	if !fits {
		return fmt.Errorf("%w: the public key is none of %s", ErrArgument, spec)
	}
	return nil
}
