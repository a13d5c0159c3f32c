package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
)

// ErrOpen is the one answer to a ciphertext that does not open, whatever the reason: changed bytes, another key,
// another encryption context, other additional data.
var ErrOpen = errors.New("ciphertext does not open")

const (
	// BlockSize is the AES block, in bytes.
	BlockSize = 16
	// DerivedKeySize is the length of Kx, the AES-256-GCM key of one item, in bytes.
	DerivedKeySize = 32
	// DerivationSize is what one item adds to the token's AES-ECB input and output: two blocks.
	DerivationSize = 2 * BlockSize
)

// saltSize is the part of the nonce that goes into the derivation; the other 12 bytes are the GCM nonce.
const saltSize = 12

// MaskKey is K1 of XAES-256-GCM, the CMAC subkey of the key in the HSM (NIST SP 800-38B, section 6.1). It depends on
// the key only, so one is computed per key version. It is secret: with it and an AES-ECB oracle anybody derives keys.
type MaskKey struct{ k1 [BlockSize]byte }

// NewMaskKey returns K1 = dbl(L), where l is L = AES_K(0^128), one zero block encrypted by the token with CKM_AES_ECB.
// The doubling in GF(2^128) runs in constant time. l is not changed; the caller wipes it.
func NewMaskKey(l *[BlockSize]byte) MaskKey {
	var m MaskKey
	for i := range BlockSize - 1 {
		m.k1[i] = l[i]<<1 | l[i+1]>>7
	}
	// 0x87 is the reduction polynomial x^7+x^2+x+1; the top bit selects it without a branch.
	m.k1[BlockSize-1] = l[BlockSize-1]<<1 ^ -(l[0]>>7)&0x87
	return m
}

// Wipe overwrites the key. No other call may use it at the same time.
func (m *MaskKey) Wipe() { clear(m.k1[:]) }

// Format prints a placeholder for every verb, so that the key cannot reach a log.
func (MaskKey) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[mask key]") }

// AppendDerivationBlocks appends the [DerivationSize] bytes that the token encrypts with CKM_AES_ECB to derive the key
// of one item (C2SP XAES-256-GCM, steps 3 to 5):
//
//	(00 01 58 00 || nonce[:12]) xor K1   ||   (00 02 58 00 || nonce[:12]) xor K1
//
// The token's output, in the same place, is Kx. Blocks of many items are concatenated into one token call.
func (m *MaskKey) AppendDerivationBlocks(dst []byte, nonce *[NonceSize]byte) []byte {
	var block [BlockSize]byte
	block[2] = 'X'
	copy(block[BlockSize-saltSize:], nonce[:saltSize])
	for counter := byte(1); counter <= 2; counter++ {
		block[1] = counter
		n := len(dst)
		dst = append(dst, block[:]...)
		subtle.XORBytes(dst[n:], dst[n:], m.k1[:])
	}
	return dst
}

// SealDerived appends AES-256-GCM(kx, nonce[12:24], plaintext, aad) to dst: the ciphertext, then the 16-byte tag. kx is
// the token's output for nonce[:12]. A nonce must never be used twice under one key version: [SealItems] draws it, only
// test vectors have reason to fix it.
//
// kx is wiped before SealDerived returns. The expanded key that Go's AES keeps on the heap cannot be; it stays until
// the garbage collector reuses the memory.
func SealDerived(dst []byte, kx *[DerivedKeySize]byte, nonce *[NonceSize]byte, plaintext, aad []byte) ([]byte, error) {
	aead, err := derivedAEAD(kx)
	if err != nil {
		return nil, err
	}
	return aead.Seal(dst, nonce[saltSize:], plaintext, aad), nil
}

// OpenDerived appends the plaintext of body to dst, or returns nil and [ErrOpen]. body is what follows the header of a
// blob of format 1, in one piece: nonce (24), ciphertext, tag (16); kx is the token's output for nonce[:12]. kx is wiped
// in either case; the expanded key cannot be, as [SealDerived] says, on the stack or on the heap. dst must not overlap
// body.
func OpenDerived(dst []byte, kx *[DerivedKeySize]byte, body, aad []byte) ([]byte, error) {
	if len(body) < NonceSize+TagSize {
		clear(kx[:])
		return nil, ErrOpen
	}
	return openGCM(dst, kx, body[saltSize:], aad)
}

// derivedAEAD expands kx and wipes it. It fails only where the Go runtime forbids the algorithm.
func derivedAEAD(kx *[DerivedKeySize]byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(kx[:])
	clear(kx[:])
	if err != nil {
		return nil, fmt.Errorf("AES-256: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("AES-256-GCM: %w", err)
	}
	return aead, nil
}
