package pkcs11hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// returnCode is a CK_RV (PKCS#11 v2.40, section 5.1).
type returnCode uint

// The return codes that the code names; the table below knows more.
const (
	ckrOK             returnCode = pkcs11.CKR_OK
	ckrGeneralError   returnCode = pkcs11.CKR_GENERAL_ERROR
	ckrBufferTooSmall returnCode = pkcs11.CKR_BUFFER_TOO_SMALL
	ckrNotLoggedIn    returnCode = pkcs11.CKR_USER_NOT_LOGGED_IN
	// ckrNoPIN says that nobody has set a PIN, and so nothing about ours.
	ckrNoPIN returnCode = pkcs11.CKR_USER_PIN_NOT_INITIALIZED
)

// class is what a return code asks of us.
type class uint8

const (
	// classAsk: the code can mean anything; the session and the token are asked
	// before anything is concluded. The zero class, so that codes without a row
	// (vendor codes) are in it.
	classAsk class = iota
	// classSession: the session is gone or stuck: replace it, try again.
	classSession
	// classLogin: the login is lost: log in once, try again.
	classLogin
	// classHandle: the object handle is stale: find the object anew, try again.
	classHandle
	// classGone: the token or the module is gone.
	classGone
	// classForbidden: the key may not do this. Never retried.
	classForbidden
	// classRequest: this request or item is what the module does not take.
	classRequest
	// classAuthentication: a ciphertext did not verify.
	classAuthentication
	// classUnsupported: the module cannot do it.
	classUnsupported
	// classPIN: the PIN is wrong or locked. Never retried.
	classPIN
	// classFailed: this one operation failed, and asking showed that session and
	// token are well. No code has it; it is what asking makes of classAsk.
	classFailed
)

// isLoss tells that a session, the login, a handle or the token was lost, which says
// nothing about the request.
func (c class) isLoss() bool {
	switch c {
	case classSession, classLogin, classHandle, classGone:
		return true
	default:
		return false
	}
}

// codeClass is the class of a return code, and the sentinel that a caller gets once
// nothing more can be done about it.
type codeClass struct {
	class class
	err   error
}

// codeClasses is the whole classification. A code without a row is classAsk and
// hsm.ErrUnavailable.
var codeClasses = map[returnCode]codeClass{
	pkcs11.CKR_SESSION_HANDLE_INVALID: {classSession, hsm.ErrUnavailable},
	pkcs11.CKR_SESSION_CLOSED:         {classSession, hsm.ErrUnavailable},
	pkcs11.CKR_OPERATION_ACTIVE:       {classSession, hsm.ErrUnavailable},
	// The only return of an operation that leaves it active.
	pkcs11.CKR_BUFFER_TOO_SMALL: {classSession, hsm.ErrUnavailable},

	pkcs11.CKR_USER_NOT_LOGGED_IN: {classLogin, hsm.ErrLoginLost},

	// Not ErrKeyNotFound: that a key is missing is known from a search only.
	pkcs11.CKR_OBJECT_HANDLE_INVALID: {classHandle, hsm.ErrUnavailable},
	pkcs11.CKR_KEY_HANDLE_INVALID:    {classHandle, hsm.ErrUnavailable},

	pkcs11.CKR_DEVICE_REMOVED:           {classGone, hsm.ErrUnavailable},
	pkcs11.CKR_TOKEN_NOT_PRESENT:        {classGone, hsm.ErrUnavailable},
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED:     {classGone, hsm.ErrUnavailable},
	pkcs11.CKR_SLOT_ID_INVALID:          {classGone, hsm.ErrUnavailable},
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED: {classGone, hsm.ErrUnavailable},

	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: {classForbidden, hsm.ErrKeyNotPermitted},
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:      {classForbidden, hsm.ErrKeyNotPermitted},
	pkcs11.CKR_MECHANISM_INVALID:          {classForbidden, hsm.ErrKeyNotPermitted},

	pkcs11.CKR_ARGUMENTS_BAD:           {classRequest, hsm.ErrUnsupported},
	pkcs11.CKR_DATA_INVALID:            {classRequest, hsm.ErrUnsupported},
	pkcs11.CKR_DATA_LEN_RANGE:          {classRequest, hsm.ErrUnsupported},
	pkcs11.CKR_DEVICE_MEMORY:           {classRequest, hsm.ErrUnsupported},
	pkcs11.CKR_MECHANISM_PARAM_INVALID: {classRequest, hsm.ErrUnsupported},

	pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE: {classAuthentication, hsm.ErrAuthentication},
	pkcs11.CKR_ENCRYPTED_DATA_INVALID:   {classAuthentication, hsm.ErrAuthentication},
	pkcs11.CKR_SIGNATURE_INVALID:        {classAuthentication, hsm.ErrAuthentication},
	// CKR_AEAD_DECRYPT_FAILED of PKCS#11 v3.0.
	0x42: {classAuthentication, hsm.ErrAuthentication},

	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:         {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:            {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID:         {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID:        {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_ACTION_PROHIBITED:              {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_TEMPLATE_INCONSISTENT:          {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_TEMPLATE_INCOMPLETE:            {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_TOKEN_WRITE_PROTECTED:          {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_KEY_SIZE_RANGE:                 {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_RANDOM_NO_RNG:                  {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_SESSION_READ_ONLY:              {classUnsupported, hsm.ErrUnsupported},
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED:       {classPIN, hsm.ErrPINIncorrect},
	pkcs11.CKR_PIN_INCORRECT:                  {classPIN, hsm.ErrPINIncorrect},
	pkcs11.CKR_PIN_INVALID:                    {classPIN, hsm.ErrPINIncorrect},
	pkcs11.CKR_PIN_LEN_RANGE:                  {classPIN, hsm.ErrPINIncorrect},
	pkcs11.CKR_PIN_EXPIRED:                    {classPIN, hsm.ErrPINIncorrect},
	pkcs11.CKR_PIN_LOCKED:                     {classPIN, hsm.ErrPINLocked},
	pkcs11.CKR_USER_TYPE_INVALID:              {classPIN, hsm.ErrPINIncorrect},
	pkcs11.CKR_USER_ANOTHER_ALREADY_LOGGED_IN: {classPIN, hsm.ErrPINIncorrect},
}

// callError is a PKCS#11 function that returned something other than CKR_OK. It
// matches exactly one sentinel of package hsm.
type callError struct {
	function string
	rv       returnCode
	class    class
	err      error // the sentinel
}

// newCallError classifies rv, which is not CKR_OK.
func newCallError(function string, rv returnCode) *callError {
	row, ok := codeClasses[rv]
	if !ok {
		row = codeClass{classAsk, hsm.ErrUnavailable}
	}
	return &callError{function: function, rv: rv, class: row.class, err: row.err}
}

// as returns the error in another class and with another sentinel, for a caller
// that knows more than the return code says.
func (e *callError) as(c class, sentinel error) *callError {
	changed := *e
	changed.class, changed.err = c, sentinel
	return &changed
}

func (e *callError) Error() string {
	return fmt.Sprintf("%v: %s: %v", e.err, e.function, pkcs11.Error(e.rv))
}

func (e *callError) Unwrap() error { return e.err }

// check turns what a shim call returned into an error, nil for CKR_OK.
func check(function string, rv returnCode) error {
	if rv == ckrOK {
		return nil
	}
	return newCallError(function, rv)
}

// wrap turns an error of miekg/pkcs11 into one of ours. An error that carries no
// return code is classAsk.
func wrap(function string, err error) error {
	if err == nil {
		return nil
	}
	var rv pkcs11.Error
	if errors.As(err, &rv) {
		return newCallError(function, returnCode(rv))
	}
	return &callError{function: function, rv: ckrGeneralError, class: classAsk, err: hsm.ErrUnavailable}
}

// classOf is the class of an error that wraps a callError; ok is false for others.
func classOf(err error) (c class, ok bool) {
	e, ok := errors.AsType[*callError](err)
	if !ok {
		return 0, false
	}
	return e.class, true
}

// sessionIsDead tells that the module knows no such session, as opposed to one that
// is stuck.
func sessionIsDead(err error) bool {
	return isCode(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED)
}

// isCode reports whether err is a callError with one of the codes.
func isCode(err error, codes ...returnCode) bool {
	var e *callError
	if !errors.As(err, &e) {
		return false
	}
	for _, rv := range codes {
		if e.rv == rv {
			return true
		}
	}
	return false
}
