package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// padWrapIV is the constant half of the alternative initial value (RFC 5649, section 3); the
// other half is the length.
var padWrapIV = [4]byte{0xa6, 0x59, 0x59, 0xa6}

// WrapAES is AES key wrap with padding (RFC 5649; KWP of SP 800-38F), which makes
// Wrapped.Value. kek has 16, 24 or 32 bytes, key 1 to MaxWrapped-16. The result has 16 bytes
// or more, a multiple of 8. The error is ErrArgument.
func WrapAES(kek, key []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(key) == 0 || len(key) > MaxWrapped-16 {
		return nil, fmt.Errorf("%w: wrapping %d bytes under a key of %d", ErrArgument, len(key), len(kek))
	}
	n := (len(key) + 7) / 8
	out := make([]byte, 8*(n+1))
	copy(out, padWrapIV[:])
	binary.BigEndian.PutUint32(out[4:], uint32(len(key)))
	copy(out[8:], key)
	if n == 1 { // section 4.1: a single block is encrypted as it is
		block.Encrypt(out, out)
		return out, nil
	}
	// RFC 3394, section 2.2.1
	var b [16]byte
	copy(b[:], out[:8])
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(n*j+i))
			copy(out[8*i:8*i+8], b[8:])
		}
	}
	copy(out, b[:8])
	return out, nil
}

// UnwrapAES is the reverse of WrapAES. The error is ErrArgument for lengths that WrapAES
// does not make, and ErrAuthentication for whatever else is wrong.
func UnwrapAES(kek, wrapped []byte) ([]byte, error) {
	block, err := aes.NewCipher(kek)
	if err != nil || len(wrapped) < 16 || len(wrapped) > MaxWrapped || len(wrapped)%8 != 0 {
		return nil, fmt.Errorf("%w: unwrapping %d bytes under a key of %d", ErrArgument, len(wrapped), len(kek))
	}
	n := len(wrapped)/8 - 1
	out := bytes.Clone(wrapped)
	if n == 1 {
		block.Decrypt(out, out)
		return unpad(out)
	}
	// RFC 3394, section 2.2.2
	var b [16]byte
	copy(b[:], out[:8])
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^uint64(n*j+i))
			copy(b[8:], out[8*i:])
			block.Decrypt(b[:], b[:])
			copy(out[8*i:8*i+8], b[8:])
		}
	}
	copy(out, b[:8])
	clear(b[:])
	return unpad(out)
}

// unpad checks the initial value, length and padding of what was unwrapped (RFC 5649,
// section 3) and returns the key; else it wipes it.
func unpad(out []byte) ([]byte, error) {
	length, room := int(binary.BigEndian.Uint32(out[4:])&0x7fffffff), len(out)-8
	good := subtle.ConstantTimeByteEq(out[4]>>7, 0)
	good &= subtle.ConstantTimeCompare(out[:4], padWrapIV[:])
	good &= subtle.ConstantTimeLessOrEq(room-7, length) & subtle.ConstantTimeLessOrEq(length, room)
	var padding byte
	for i := 1; i <= 7; i++ {
		past := subtle.ConstantTimeLessOrEq(length+1, room-i+1)
		padding |= out[len(out)-i] & byte(-past)
	}
	good &= subtle.ConstantTimeByteEq(padding, 0)
	if good != 1 {
		clear(out)
		return nil, ErrAuthentication
	}
	return out[8 : 8+length], nil
}
