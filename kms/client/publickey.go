package client

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// keyPair is a version of an asymmetric key, with its public key: what signers and
// decrypters stand on.
type keyPair struct {
	service   kms.API
	version   kms.VersionName
	algorithm kms.Algorithm
	public    crypto.PublicKey
	// ctx is for the calls of interfaces of the standard library, which hand over none.
	ctx context.Context
}

// newKeyPair asks the service for the public key of a key's primary version, or of a
// version, which must be of the purpose.
func newKeyPair(ctx context.Context, service kms.API, purpose kms.Purpose, r *kms.GetPublicKeyRequest) (keyPair, error) {
	r.Format = kms.PublicKeyDER
	found, err := service.GetPublicKey(ctx, kms.Principal{}, r)
	if err != nil {
		return keyPair{}, err
	}
	if found.Algorithm.Purpose() != purpose {
		return keyPair{}, &kms.Error{
			Sentinel: kms.ErrPurpose,
			Message: fmt.Sprintf("%s is a key for %s (%s), not for %s",
				found.Version.Key(), found.Algorithm.Purpose(), found.Algorithm, purpose),
		}
	}
	public, err := x509.ParsePKIXPublicKey(found.Key)
	if err != nil {
		return keyPair{}, fmt.Errorf("%w: the public key of %s: %w", wire.ErrMalformedResponse, found.Version, err)
	}
	return keyPair{
		service: service, version: found.Version, algorithm: found.Algorithm, public: public,
		ctx: context.WithoutCancel(ctx),
	}, nil
}

// Public returns the public key: an *ecdsa.PublicKey, an ed25519.PublicKey or an
// *rsa.PublicKey.
func (k *keyPair) Public() crypto.PublicKey { return k.public }

// Version is the key version whose private key is used.
func (k *keyPair) Version() kms.VersionName { return k.version }

// Algorithm is what the private key computes.
func (k *keyPair) Algorithm() kms.Algorithm { return k.algorithm }
