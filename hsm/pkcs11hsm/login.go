package pkcs11hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// login is the state of the one login that a process has with a token. Its session
// is the anchor: it stays open as long as the token, so that the login does not end
// with the last session of the pool, and session objects are made in it, since they
// end with the session that made them.
type login struct {
	sem     chan struct{} // has room for one: parallel tries could lock the PIN
	anchor  *session      // guarded by sem
	refused bool          // the token refused the PIN; guarded by sem
	// failed is the error of the last login that was tried, if that may have been for the
	// PIN. Guarded by sem.
	failed error
}

// functionLogin names the function in errors.
const functionLogin = "C_Login"

// errPINUnreadable: Config.PIN failed. Nothing was tried.
var errPINUnreadable = errors.New("the PIN cannot be read")

// errCounted: the token took a failed login for a wrong PIN, whatever it returned.
var errCounted = errors.New("the token counts it as a wrong PIN")

// logIn logs in unless the process is logged in already. After a refusal of the
// PIN it never tries again, and after another failure not while the token counts a wrong
// PIN. Errors of the module are callErrors; the caller decides what a refusal means.
func (t *Token) logIn(ctx context.Context) error {
	select {
	case t.login.sem <- struct{}{}:
		defer func() { <-t.login.sem }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.login.refused {
		return fmt.Errorf("%w: the token refused the PIN before", hsm.ErrLoginLost)
	}
	if done, err := t.checkAnchor(ctx); done || err != nil {
		return err
	}
	if err := t.checkCount(); err != nil {
		return err
	}
	pin, err := t.cfg.PIN()
	if err != nil {
		return fmt.Errorf("%w: %w", errPINUnreadable, err)
	}
	t.module.calls.Lock() // see module.calls
	rv := t.module.lib.login(t.login.anchor.handle, pkcs11.CKU_USER, pin)
	// Whatever the handles were, they are not what they were in another login.
	t.handles.reset()
	t.module.calls.Unlock()
	clear(pin)
	err = check(functionLogin, rv)
	if isCode(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		err = nil
	}
	if err == nil || mayMeanPIN(err) {
		t.login.failed = err
	}
	if c, ok := classOf(err); ok && c == classPIN && !isCode(err, ckrNoPIN) {
		t.login.refused = true
	}
	return err
}

// mayMeanPIN reports whether err is that of a login that failed, and may be a device's word
// for a wrong PIN: any return code but those that say that the session or the token is gone,
// or that nobody has set a PIN.
func mayMeanPIN(err error) bool {
	e, ok := errors.AsType[*callError](err)
	return ok && e.function == functionLogin && e.class != classSession && e.class != classGone && e.rv != ckrNoPIN
}

// checkCount asks the token, if the last login failed, whether it took that for a wrong PIN:
// another could lock the PIN. The error is errCounted then. The flags go away with a login
// that succeeds, whoever's it is. The caller holds login.sem.
func (t *Token) checkCount() error {
	if t.login.failed == nil {
		return nil
	}
	t.module.calls.RLock()
	defer t.module.calls.RUnlock()
	info, err := t.module.ctx.GetTokenInfo(t.module.slot)
	if err != nil {
		return wrap("C_GetTokenInfo", err)
	}
	const counts = pkcs11.CKF_USER_PIN_COUNT_LOW | pkcs11.CKF_USER_PIN_FINAL_TRY | pkcs11.CKF_USER_PIN_LOCKED
	if info.Flags&counts != 0 {
		return fmt.Errorf("%w: %w: %v", hsm.ErrPINIncorrect, errCounted, t.login.failed)
	}
	return nil
}

// checkAnchor makes sure that the anchor session exists; done tells that it is
// logged in.
func (t *Token) checkAnchor(ctx context.Context) (done bool, err error) {
	if anchor := t.login.anchor; anchor != nil {
		t.module.calls.RLock()
		err := newCallError("C_GetSessionInfo", pkcs11.CKR_SESSION_HANDLE_INVALID)
		if anchor.epoch == t.module.epoch {
			e := t.state(anchor)
			if e == nil {
				t.module.calls.RUnlock()
				return true, nil
			}
			errors.As(e, &err)
		}
		t.module.calls.RUnlock()
		if err.class == classLogin {
			return false, nil
		}
		anchor.dead = true
		t.handles.dropSessionKeys()
	}
	t.login.anchor, err = t.openSession(ctx)
	return false, err
}

// relogIn logs in after a login was lost.
func (t *Token) relogIn(ctx context.Context) error {
	err := t.logIn(ctx)
	if errors.Is(err, errCounted) {
		return fmt.Errorf("%w: %v", hsm.ErrLoginLost, err)
	}
	if isCode(err, ckrNoPIN) {
		return fmt.Errorf("%w: %v", hsm.ErrUnavailable, err)
	}
	if c, ok := classOf(err); ok && c == classPIN {
		t.log.ErrorContext(ctx, "login to the token was lost and the PIN was refused; it will not be tried again",
			"error", err)
		return fmt.Errorf("%w: %v", hsm.ErrLoginLost, err)
	}
	if errors.Is(err, errPINUnreadable) {
		return fmt.Errorf("%w: %w", hsm.ErrLoginLost, err)
	}
	if err == nil {
		t.log.WarnContext(ctx, "login to the token was lost and is restored")
	}
	return err
}

// withAnchor runs f with the anchor session, to itself. The caller holds
// module.calls, so it must not wait for who is logging in, who waits for that.
func (t *Token) withAnchor(f func(anchor *session) error) error {
	select {
	case t.login.sem <- struct{}{}:
		defer func() { <-t.login.sem }()
	default:
		return newCallError("C_GetSessionInfo", ckrNotLoggedIn)
	}
	anchor := t.login.anchor
	if anchor == nil || anchor.epoch != t.module.epoch || t.state(anchor) != nil {
		// Logging in again opens the anchor anew.
		return newCallError("C_GetSessionInfo", ckrNotLoggedIn)
	}
	return f(anchor)
}
