package envelope

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
)

// ErrDataKeySize reports a data key that is shorter than [DataKeySizeMin] or longer than [DataKeySizeMax].
var ErrDataKeySize = errors.New("data key size out of range")

// CheckDataKeySize returns an error that wraps [ErrDataKeySize] unless a data key may have size bytes.
func CheckDataKeySize(size int) error {
	if !plaintextSizeValid(KindWrappedKey, size) {
		return fmt.Errorf("%w: %d bytes, want %d to %d", ErrDataKeySize, size, DataKeySizeMin, DataKeySizeMax)
	}
	return nil
}

// MixRandom XORs bytes from the operating system's random generator into tokenRandom, in place. The result is
// unpredictable if either source is: the bytes of one C_GenerateRandom call serve as the data keys of a whole request
// without making the token's generator the only thing they rest on.
//
// It works in place so that the two sources cannot be the same memory, which would XOR to zero.
func MixRandom(tokenRandom []byte) {
	var chunk [512]byte
	defer clear(chunk[:])
	for len(tokenRandom) > 0 {
		n := min(len(tokenRandom), len(chunk))
		_, _ = rand.Read(chunk[:n]) // never fails: crypto/rand stops the program instead
		subtle.XORBytes(tokenRandom[:n], tokenRandom[:n], chunk[:n])
		tokenRandom = tokenRandom[n:]
	}
}
