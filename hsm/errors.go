package hsm

import "errors"

// The sentinel errors of a Token. Every error of an implementation matches exactly
// one of them, or is a context's error. The text of a wrapping error may name the
// PKCS#11 function and return code; it never holds key material, plaintext or a PIN.
var (
	// ErrArgument: the request is malformed (a length that is no multiple of the
	// block size, an unknown specification). Nothing was sent to the token.
	ErrArgument = errors.New("hsm: invalid argument")
	// ErrKeyNotFound: the token holds no object with this UID.
	ErrKeyNotFound = errors.New("hsm: key not found in the token")
	// ErrKeyExists: the token already holds an object with this UID.
	ErrKeyExists = errors.New("hsm: key exists in the token")
	// ErrKeyNotPermitted: the object may not do this: its usage attribute is off,
	// or its allowed mechanisms do not include it. Not to be retried.
	ErrKeyNotPermitted = errors.New("hsm: the token does not permit this use of the key")
	// ErrAuthentication: a GCM tag did not verify, or an RSA-OAEP ciphertext or a wrapped
	// key does not open.
	ErrAuthentication = errors.New("hsm: authentication failed")
	// ErrUnsupported: this module or token cannot do it at all.
	ErrUnsupported = errors.New("hsm: not supported by this token")
	// ErrLoginLost: the token is there but no longer logged in, and logging in
	// again failed.
	ErrLoginLost = errors.New("hsm: login to the token was lost")
	// ErrUnavailable: the token or the module is gone or failing. It may come back.
	ErrUnavailable = errors.New("hsm: token unavailable")
	// ErrBusy: too much is waiting for the token already. Nothing was done; it may
	// be tried again later.
	ErrBusy = errors.New("hsm: too many requests are waiting for the token")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("hsm: token is closed")

	// ErrModule: the PKCS#11 module cannot be loaded or initialised.
	ErrModule = errors.New("hsm: PKCS#11 module cannot be loaded")
	// ErrTokenNotFound: no slot of the module holds the token that was asked for,
	// or more than one does.
	ErrTokenNotFound = errors.New("hsm: token not found")
	// ErrPINIncorrect: the token refused the PIN. It was tried once.
	ErrPINIncorrect = errors.New("hsm: PIN incorrect")
	// ErrPINLocked: the token's PIN is locked. No login was tried after that.
	ErrPINLocked = errors.New("hsm: PIN locked")
)
