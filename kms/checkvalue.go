package kms

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms/envelope"
)

// A UID can be changed in the token by whoever holds the PIN, so each version's sealed
// row holds a check value that only the object made for it reproduces:
//
//	DERIVED: HMAC-SHA-256(key = L, "keyholt derived" || UID), L = AES_K(0^128), 32 bytes.
//	         L is needed anyway, so checking it costs nothing, and the value of a
//	         pseudorandom function under L tells nothing of L.
//	STRICT:  an AES-256-GCM ciphertext by the object itself of SHA-256("keyholt strict" ||
//	         UID), with "keyholt check value" || UID as its AAD: nonce length (1 byte),
//	         nonce, ciphertext and tag. One of the version's encryptions.
//	Pairs:   the public key. That the token's private key belongs to it, a signature or a
//	         decryption shows (pairtest.go).
//	MAC:     SHA-256(HMAC(key, "keyholt mac check value" || UID)): the hash, so that no row
//	         holds a tag that VerifyMac would take for one.
//
// None depends on the seal key, so rows can be sealed anew while objects are off.

// newCheckValue makes the check value of a token object that was just made.
func (s *Service) newCheckValue(ctx context.Context, uid hsm.UID, a Algorithm, p Profile) ([]byte, error) {
	switch {
	case a.Purpose() == PurposeMAC:
		return s.macCheck(ctx, uid)
	case a.Purpose() != PurposeEncryptDecrypt:
		return s.newPair(ctx, uid, a)
	}
	if p == ProfileStrict {
		probe := strictProbe(uid)
		items := []hsm.SealItem{{Plaintext: probe[:], AAD: strictProbeAAD(uid)}}
		if err := firstError(s.token.Seal(ctx, uid, items), items[0].Err); err != nil {
			return nil, tokenError(err, "use the new key")
		}
		value := append([]byte{byte(len(items[0].Nonce))}, items[0].Nonce...)
		return append(value, items[0].Sealed...), nil
	}
	var l [hsm.BlockSize]byte
	defer clear(l[:])
	if err := s.token.EncryptBlocks(ctx, uid, l[:], l[:]); err != nil {
		return nil, tokenError(err, "use the new key")
	}
	value := derivedCheck(uid, &l)
	return value[:], nil
}

// maskKey returns K1 of a DERIVED version. The first time it asks the token for L,
// which also shows whether the object is the one that was made for the version.
func (s *Service) maskKey(ctx context.Context, v *versionEntry) (envelope.MaskKey, error) {
	if mask, ok := v.live.cached(); ok {
		return mask, nil
	}
	var l [hsm.BlockSize]byte
	defer clear(l[:])
	if err := s.token.EncryptBlocks(ctx, v.UID, l[:], l[:]); err != nil {
		return envelope.MaskKey{}, tokenError(err, "derive keys")
	}
	value := derivedCheck(v.UID, &l)
	if subtle.ConstantTimeCompare(value[:], v.Check) != 1 {
		return envelope.MaskKey{}, s.wrongObject(ctx, v)
	}
	mask := envelope.NewMaskKey(&l)
	v.live.keep(mask)
	return mask, nil
}

// checkObject makes sure, once, that the object of a version is the one that was made for
// it. What DERIVED versions need for that, maskKey asks.
func (s *Service) checkObject(ctx context.Context, v *versionEntry) error {
	if _, ok := v.live.cached(); ok {
		return nil
	}
	var err error
	switch {
	case v.algorithm.Purpose() == PurposeMAC:
		err = s.checkMacKey(ctx, v)
	case v.algorithm.Purpose() != PurposeEncryptDecrypt:
		err = s.checkPair(ctx, v)
	default:
		err = s.checkStrict(ctx, v)
	}
	if err == nil {
		v.live.keep(envelope.MaskKey{})
	}
	return err
}

func (s *Service) checkStrict(ctx context.Context, v *versionEntry) error {
	if len(v.Check) < 1 || len(v.Check) < 1+int(v.Check[0]) {
		return s.wrongObject(ctx, v)
	}
	nonce, sealed := v.Check[1:1+v.Check[0]], v.Check[1+v.Check[0]:]
	items := []hsm.OpenItem{{Nonce: nonce, Sealed: sealed, AAD: strictProbeAAD(v.UID)}}
	err := firstError(s.token.Open(ctx, v.UID, items), items[0].Err)
	if errors.Is(err, hsm.ErrAuthentication) {
		return s.wrongObject(ctx, v)
	}
	if err != nil {
		return tokenError(err, "decrypt")
	}
	probe := strictProbe(v.UID)
	if subtle.ConstantTimeCompare(items[0].Plaintext, probe[:]) != 1 {
		return s.wrongObject(ctx, v)
	}
	return nil
}

func (s *Service) checkMacKey(ctx context.Context, v *versionEntry) error {
	value, err := s.macCheck(ctx, v.UID)
	if err == nil && subtle.ConstantTimeCompare(value, v.Check) != 1 {
		err = s.wrongObject(ctx, v)
	}
	return err
}

// macCheck is the check value of a MAC key.
func (s *Service) macCheck(ctx context.Context, uid hsm.UID) ([]byte, error) {
	tag, err := s.token.MAC(ctx, uid, append([]byte("keyholt mac check value"), uid[:]...))
	if err != nil {
		return nil, tokenError(err, "make a MAC")
	}
	defer clear(tag)
	value := sha256.Sum256(tag)
	return value[:], nil
}

// wrongObject marks a version whose object is not the one that was made for it.
func (s *Service) wrongObject(ctx context.Context, v *versionEntry) error {
	const why = "the token object with its UID is not the key that was made for it"
	s.log.ErrorContext(ctx, "key version does not match its token object",
		slog.String("key_version", v.Name.String()), slog.String("uid", v.UID.String()))
	v.live.fail(why)
	return v.unavailable(why)
}

func derivedCheck(uid hsm.UID, l *[hsm.BlockSize]byte) [32]byte {
	mac := hmac.New(sha256.New, l[:])
	mac.Write([]byte("keyholt derived"))
	mac.Write(uid[:])
	var sum [32]byte
	mac.Sum(sum[:0])
	return sum
}

func strictProbe(uid hsm.UID) [32]byte {
	return sha256.Sum256(append([]byte("keyholt strict"), uid[:]...))
}

func strictProbeAAD(uid hsm.UID) []byte { return append([]byte("keyholt check value"), uid[:]...) }

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
