package pkcs11hsm

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// PublicKey implements [hsm.PublicKeys]. An RSA private key tells its modulus too, so that
// the public key object is not needed.
func (t *Token) PublicKey(ctx context.Context, uid hsm.UID) ([]byte, error) {
	var der []byte
	err := t.withHandle(ctx, uid, func(s *session, k keyHandle) error {
		if !k.spec.IsPair() {
			return fmt.Errorf("%w: %s is no key pair", hsm.ErrKeyNotPermitted, uid)
		}
		public, err := t.publicKey(s, k)
		if err != nil {
			return err
		}
		der, err = x509.MarshalPKIXPublicKey(public)
		if err != nil {
			return fmt.Errorf("%w: the public key of %s: %v", hsm.ErrUnavailable, uid, err)
		}
		return nil
	})
	return der, err
}

// publicKey asks the token for the public key of a pair.
func (t *Token) publicKey(s *session, k keyHandle) (any, error) {
	h, wanted := k.public, []uint{pkcs11.CKA_EC_POINT}
	if k.spec.IsRSA() {
		wanted = []uint{pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT}
		if h == 0 {
			h = k.handle
		}
	}
	if h == 0 {
		return nil, fmt.Errorf("%w: the public key object", hsm.ErrKeyNotFound)
	}
	set, err := search{t, s}.attributes(h, wanted)
	if err != nil {
		return nil, err
	}
	return set.publicKey(k.spec)
}

// publicKey is the key of a public key object, or of an RSA private key: an
// *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey.
func (a attributeSet) publicKey(spec hsm.KeySpec) (any, error) {
	if spec.IsRSA() {
		n, e := new(big.Int).SetBytes(a[pkcs11.CKA_MODULUS]), new(big.Int).SetBytes(a[pkcs11.CKA_PUBLIC_EXPONENT])
		if n.BitLen() != 8*spec.Size() || !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 {
			return nil, fmt.Errorf("%w: the token reports an RSA key of %d bits", hsm.ErrUnavailable, n.BitLen())
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	}
	point := a[pkcs11.CKA_EC_POINT]
	// The standard has a DER OCTET STRING; some modules give the bytes in it.
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	if spec == hsm.Ed25519 {
		if len(point) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: the token reports an Ed25519 key of %d bytes", hsm.ErrUnavailable, len(point))
		}
		return ed25519.PublicKey(point), nil
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curveOf(spec), point)
	if err != nil {
		return nil, fmt.Errorf("%w: the token reports a point that is not on the curve: %v", hsm.ErrUnavailable, err)
	}
	return public, nil
}

// publicAttributes are those that a public key object has beyond its template.
func (d dialect) publicAttributes(spec hsm.KeySpec, public any) ([]*pkcs11.Attribute, error) {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS, key.N.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E)).Bytes()),
		}, nil
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			return nil, fmt.Errorf("%w: the public key: %v", hsm.ErrArgument, err)
		}
		return d.pointAttributes(spec, point)
	case ed25519.PublicKey:
		return d.pointAttributes(spec, key)
	default:
		return nil, fmt.Errorf("%w: a public key of type %T", hsm.ErrArgument, public)
	}
}

func (d dialect) pointAttributes(spec hsm.KeySpec, point []byte) ([]*pkcs11.Attribute, error) {
	der, err := asn1.Marshal(point)
	if err != nil {
		return nil, fmt.Errorf("%w: the public key: %v", hsm.ErrArgument, err)
	}
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, d.curve(spec)), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, der),
	}, nil
}
