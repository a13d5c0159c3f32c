package pkcs11hsm

import (
	"context"
	"errors"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// session is one PKCS#11 session and the buffers that belong to whoever uses it.
type session struct {
	handle sessionHandle
	epoch  uint64 // of the module when the session was opened
	dead   bool   // the module says that there is no such session

	input []byte     // flat input of items; wiped after use
	items []gcmItem  // GCM items
	flat  []flatItem // other items
}

// openSession opens a read-write session. It is not logged in by itself: a login
// covers all sessions that the process has with a token.
func (t *Token) openSession(context.Context) (*session, error) {
	t.module.calls.RLock()
	defer t.module.calls.RUnlock()
	h, err := t.module.ctx.OpenSession(t.module.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, wrap("C_OpenSession", err)
	}
	return &session{handle: sessionHandle(h), epoch: t.module.epoch}, nil
}

// closeSession closes a session unless its handle may by now be another's.
func (t *Token) closeSession(s *session) {
	t.module.calls.RLock()
	defer t.module.calls.RUnlock()
	if !s.dead && s.epoch == t.module.epoch {
		_ = t.module.ctx.CloseSession(pkcs11.SessionHandle(s.handle))
	}
}

// state asks whether the session exists and is logged in as the user. The caller
// holds module.calls.
func (t *Token) state(s *session) error {
	state, rv := t.module.lib.sessionState(s.handle)
	if err := check("C_GetSessionInfo", rv); err != nil {
		return err
	}
	if state != pkcs11.CKS_RW_USER_FUNCTIONS {
		return newCallError("C_GetSessionInfo", ckrNotLoggedIn)
	}
	return nil
}

// The waits between the questions whether the token is there, each four times as long as the
// one before: 1, 4 and 16 ms. See [Open] for what empties SoftHSM2's file for a moment.
const (
	firstPresenceWait = time.Millisecond
	lastPresenceWait  = 16 * time.Millisecond
)

// present asks whether the token is there. A token that does not know is asked again. The
// caller holds module.calls.
func (t *Token) present() error {
	for wait := firstPresenceWait; ; wait *= 4 {
		_, err := t.module.ctx.GetTokenInfo(t.module.slot)
		err = wrap("C_GetTokenInfo", err)
		if c, ok := classOf(err); !ok || c != classAsk || wait > lastPresenceWait {
			return err
		}
		time.Sleep(wait) //nolint:forbidigo // 21 ms in all, in a call into the module, which no context ends
	}
}

// diagnose asks the session and the token what a return code that can mean anything
// did mean. The caller holds module.calls.
func (t *Token) diagnose(s *session, e *callError) *callError {
	err := t.state(s)
	if err == nil {
		err = t.present()
	}
	found, ok := errors.AsType[*callError](err)
	if !ok {
		return e.as(classFailed, e.err)
	}
	if found.class == classAsk {
		// A token that cannot even tell its name is not well. SoftHSM2 is like that for
		// good once it could not read its files, until the module is begun again.
		return found.as(classGone, hsm.ErrUnavailable)
	}
	return found
}
