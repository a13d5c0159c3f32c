package hsm

import (
	"fmt"
	"unsafe"
)

// CheckBlocks is the check of arguments that every EncryptBlocks begins with: src
// is a positive multiple of BlockSize, dst has room for it, and the two are the same
// memory or do not overlap. The error is ErrArgument.
func CheckBlocks(dst, src []byte) error {
	if len(src) == 0 || len(src)%BlockSize != 0 || len(dst) < len(src) {
		return fmt.Errorf("%w: %d bytes into %d", ErrArgument, len(src), len(dst))
	}
	d, s := uintptr(unsafe.Pointer(&dst[0])), uintptr(unsafe.Pointer(&src[0]))
	n := uintptr(len(src))
	if d != s && d < s+n && s < d+n {
		return fmt.Errorf("%w: source and destination overlap", ErrArgument)
	}
	return nil
}
