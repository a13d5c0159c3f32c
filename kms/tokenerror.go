package kms

import (
	"context"
	"errors"

	"github.com/keyholt/keyholt/hsm"
)

// tokenError turns an error of the token into one of the domain. doing completes the
// sentence "the token could not ...".
func tokenError(err error, doing string) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, hsm.ErrKeyNotFound):
		return errorf(ErrVersionUnavailable, "the token could not %s: it does not hold the key object", doing).because(err)
	case errors.Is(err, hsm.ErrKeyNotPermitted):
		return errorf(ErrTokenRefused, "the token refused to %s", doing).because(err)
	case errors.Is(err, hsm.ErrUnsupported):
		return errorf(ErrUnsupported, "this token cannot %s", doing).because(err)
	case errors.Is(err, hsm.ErrBusy):
		return errorf(ErrOverloaded, "too many requests are waiting for the token").because(err)
	case errors.Is(err, hsm.ErrAuthentication):
		return errorf(ErrDecryptionFailed, "decryption failed").because(err)
	default:
		return errorf(ErrTokenUnavailable, "the token could not %s", doing).because(err)
	}
}
