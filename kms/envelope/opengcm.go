package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
)

// openGCM appends the plaintext of message, which is nonce (12), ciphertext and tag (16), to dst, or returns nil and
// [ErrOpen]. kx is wiped.
//
// A data key is opened by a key of its own, so what counts is not AES-GCM itself but its set-up for a key. It is written
// so that the compiler can keep the AES and the GCM state (1.3 kB) on the stack: that takes a GCM whose constructor does
// not let the block cipher escape, which is [cipher.NewGCMWithRandomNonce]. It opens nonce, ciphertext and tag in one
// piece, and is nothing else than AES-256-GCM with a nonce of 96 bits; only its Seal, which is not used here, chooses
// nonces by itself. It also takes both constructors to be inlined, for which they are a little too large, unless a
// profile calls them hot: cmd/kmsd/default.pgo does, and go build uses it for kmsd. Without, the states are on the heap,
// and nothing else changes.
func openGCM(dst []byte, kx *[DerivedKeySize]byte, message, aad []byte) ([]byte, error) {
	block, err := aes.NewCipher(kx[:])
	clear(kx[:])
	if err != nil {
		return nil, fmt.Errorf("AES-256: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("AES-256-GCM: %w", err)
	}
	plaintext, err := aead.Open(dst, nil, message, aad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}
