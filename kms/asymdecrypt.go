package kms

import (
	"context"
	"errors"

	"github.com/keyholt/keyholt/hsm"
)

// AsymmetricDecryptRequest asks for the plaintext of a ciphertext that was made with the
// public key of an ASYMMETRIC_DECRYPT key.
type AsymmetricDecryptRequest struct {
	Key        KeyName // its primary version; or
	Version    VersionName
	Ciphertext []byte // as long as the modulus
}

// AsymmetricDecryptResult is a plaintext and the version that decrypted it.
type AsymmetricDecryptResult struct {
	Plaintext Secret
	Version   VersionName
	Algorithm Algorithm
}

// AsymmetricDecrypt returns the plaintext of a ciphertext that was made with the public
// key of a version of an ASYMMETRIC_DECRYPT key. The token decrypts, padding included: the
// host never sees what is padded. Errors, beside those of all operations: ErrPurpose,
// ErrMalformedCiphertext for a ciphertext of the wrong length, and for everything else that
// may be wrong with one ErrDecryptionFailed.
func (s *Service) AsymmetricDecrypt(
	ctx context.Context, p Principal, r *AsymmetricDecryptRequest,
) (*AsymmetricDecryptResult, error) {
	it, err := s.performKey(ctx, newKeyCall(p, ActionAsymDecrypt,
		keyItem{named: namedKey{r.Key, r.Version}, given: r.Ciphertext}, firstError(
			required("ciphertext", len(r.Ciphertext) == 0), checkLength("ciphertext", len(r.Ciphertext), MaxSignature))))
	if err != nil {
		return nil, err
	}
	return &AsymmetricDecryptResult{Plaintext: it.output, Version: it.version.Name, Algorithm: it.version.algorithm}, nil
}

// decryptAsymmetric has the token decrypt items under one version, one after the other.
func (s *Service) decryptAsymmetric(ctx context.Context, v *versionEntry, items []*keyItem) error {
	ctx, end := s.begin(ctx, PhaseCipher)
	defer end()
	for _, it := range items {
		plaintext, err := s.token.DecryptOAEP(ctx, v.UID, v.algorithm.Hash(), it.input, nil)
		switch {
		case errors.Is(err, hsm.ErrAuthentication):
			it.err = errorf(ErrDecryptionFailed, "decryption failed")
		case err != nil:
			return tokenError(err, "decrypt")
		default:
			it.output = plaintext
		}
	}
	return nil
}
