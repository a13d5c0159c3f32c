package kms

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // of RSA-OAEP: sound there (RFC 8017, appendix B.1)
	"errors"
	"log/slog"

	"github.com/keyholt/keyholt/hsm"
)

// The pairwise consistency test (FIPS 140-3 IG 10.3.A): what the private key in the token
// does, the public key on the host undoes. It is run on every pair when it is made, and
// again when a process first uses it, so that no private key can be put in the place of
// another with the public key object left as it was.

// newPair is the public key of a pair that was just made, which has passed the test.
func (s *Service) newPair(ctx context.Context, uid hsm.UID, a Algorithm) ([]byte, error) {
	der, err := s.token.PublicKey(ctx, uid)
	if err != nil {
		return nil, tokenError(err, "tell the public key of the new key")
	}
	public, err := hsm.ParsePublicKey(a.KeySpec(0), der)
	if err != nil {
		return nil, errorf(ErrUnsupported, "the token made a key that is none of %s", a).because(err)
	}
	err = s.testPair(ctx, uid, a, public)
	if errors.Is(err, errWrongAnswer) {
		return nil, errorf(ErrUnsupported, "the new key of %s does not fit its public key", a).because(err)
	}
	return der, err
}

// checkPair makes sure that the pair of a version is the one that was made for it.
func (s *Service) checkPair(ctx context.Context, v *versionEntry) error {
	public, err := v.publicKey()
	if err != nil {
		return err
	}
	switch fits, err := s.samePublicKey(ctx, v); {
	case err != nil:
		return err
	case !fits:
		return s.wrongObject(ctx, v)
	}
	err = s.testPair(ctx, v.UID, v.algorithm, public)
	if errors.Is(err, errWrongAnswer) {
		s.log.ErrorContext(ctx, "the private key in the token does not fit the public key",
			slog.String("key_version", v.Name.String()))
		return s.wrongObject(ctx, v)
	}
	return err
}

// samePublicKey reports whether the token's public key of a version is that of its row.
func (s *Service) samePublicKey(ctx context.Context, v *versionEntry) (bool, error) {
	der, err := s.token.PublicKey(ctx, v.UID)
	if err != nil {
		return false, tokenError(err, "tell a public key")
	}
	return bytes.Equal(der, v.Check), nil
}

// testPair runs the test. errWrongAnswer: the keys do not belong together.
func (s *Service) testPair(ctx context.Context, uid hsm.UID, a Algorithm, public crypto.PublicKey) error {
	probe := make([]byte, 32)
	if _, err := rand.Read(probe); err != nil {
		return errorf(ErrTokenUnavailable, "no random bytes").because(err)
	}
	if a.Purpose() == PurposeAsymmetricDecrypt {
		return s.testDecryption(ctx, uid, a, public, probe)
	}
	// What is signed is no message of a caller's, and the signature never leaves here.
	message := append([]byte("keyholt pairwise consistency test"), probe...)
	input := message
	if !a.SignsMessages() {
		h := a.Hash().New()
		h.Write(message)
		input = h.Sum(nil)
	}
	signature, err := s.token.Sign(ctx, uid, a.row().scheme, input)
	if err != nil {
		return tokenError(err, "sign")
	}
	if !verifies(public, a, SignatureRaw, input, signature) {
		return errWrongAnswer
	}
	return nil
}

func (s *Service) testDecryption(ctx context.Context, uid hsm.UID, a Algorithm, public crypto.PublicKey, probe []byte) error {
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return errWrongAnswer
	}
	ciphertext, err := rsa.EncryptOAEP(a.Hash().New(), rand.Reader, key, probe, nil)
	if err != nil {
		return errorf(ErrUnsupported, "the host cannot encrypt with the public key").because(err)
	}
	plaintext, err := s.token.DecryptOAEP(ctx, uid, a.Hash(), ciphertext, nil)
	switch {
	case errors.Is(err, hsm.ErrAuthentication):
		return errWrongAnswer
	case err != nil:
		return tokenError(err, "decrypt")
	case !bytes.Equal(plaintext, probe):
		return errWrongAnswer
	}
	return nil
}
