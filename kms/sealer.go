package kms

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Sealer makes the seals of metadata rows: HMAC-SHA-256 (FIPS 198-1) under a key that
// exists only while the process runs:
//
//	b    = AES-256-ECB(seal key in the token, SHA-512("keyholt seal key v1" || 00 || store id))
//	rows = HKDF-SHA-256(ikm = b, no salt, info = "keyholt row seal v1", 32 bytes)       RFC 5869
//
// so whoever can write the database, but cannot log in to the token, cannot make a row
// that passes. A Sealer is immutable and may be used by many goroutines.
type Sealer struct {
	id   string
	rows [32]byte
}

// OpenSealer derives the seal keys of the store with the given id from the token object
// uid. With create, a missing object is made first: the caller allows that only while
// the store has never had a sealed row. Errors are domain errors.
func OpenSealer(ctx context.Context, token hsm.Token, storeID string, uid hsm.UID, create bool) (*Sealer, error) {
	if _, err := token.Key(ctx, uid); errors.Is(err, hsm.ErrKeyNotFound) && create {
		label := sealLabel(storeID, time.Now())
		if _, err := token.GenerateKey(ctx, uid, label, hsm.AES256Blocks); err != nil {
			return nil, tokenError(err, "make the seal key")
		}
	} else if err != nil {
		if errors.Is(err, hsm.ErrKeyNotFound) {
			return nil, errorf(ErrTokenRefused, "the token does not hold the seal key %s of store %s: "+
				"this is another token than the one the store was made with, or the key was destroyed", uid, storeID).because(err)
		}
		return nil, tokenError(err, "look up the seal key")
	}

	blocks := sha512.Sum512([]byte("keyholt seal key v1\x00" + storeID))
	defer clear(blocks[:])
	if err := token.EncryptBlocks(ctx, uid, blocks[:], blocks[:]); err != nil {
		return nil, tokenError(err, "use the seal key")
	}
	s := &Sealer{id: uid.String()}
	if err := expand(s.rows[:], blocks[:], "keyholt row seal v1"); err != nil {
		return nil, err
	}
	return s, nil
}

// KeyID names the seal key: the UID of its token object.
func (s *Sealer) KeyID() string { return s.id }

// Seal returns the seal of a row's canonical bytes.
func (s *Sealer) Seal(message []byte) [32]byte { return authenticate(&s.rows, message) }

func authenticate(key *[32]byte, message []byte) (sum [32]byte) {
	mac := hmac.New(sha256.New, key[:])
	mac.Write(message)
	mac.Sum(sum[:0])
	return sum
}

func expand(dst, secret []byte, info string) error {
	key, err := hkdf.Key(sha256.New, secret, nil, info, len(dst))
	if err != nil {
		return fmt.Errorf("derive the seal keys: %w", err)
	}
	copy(dst, key)
	clear(key)
	return nil
}

// sealLabel is the CKA_LABEL of a store's seal keys, which are thereby told from the
// objects of key versions: keyholt-seal:<store id>:<unix time of creation>.
func sealLabel(storeID string, t time.Time) string {
	return fmt.Sprintf("keyholt-seal:%s:%d", storeID, t.Unix())
}

// objectLabel is the CKA_LABEL of the objects of a store's key versions:
// keyholt:<store id>:<unix time of creation>.
func objectLabel(storeID string, t time.Time) string {
	return fmt.Sprintf("keyholt:%s:%d", storeID, t.Unix())
}
