package pkcs11hsm

import (
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// maxLabel is the size of CK_TOKEN_INFO's label.
const maxLabel = 32

// InitToken initialises the first slot of the module that holds an uninitialised
// token: label, security officer's PIN, user PIN. It returns the token's serial
// number, which names it together with the label. It is for SoftHSM, which always
// has such a slot, and for nothing else: initialising a real device is an
// operator's work. It may be called while tokens of the module are open.
//
// Errors: hsm.ErrArgument for a label that is empty, too long or in use;
// hsm.ErrModule; hsm.ErrTokenNotFound when no slot is free; hsm.ErrUnavailable.
func InitToken(modulePath, label string, soPIN, pin []byte) (serial string, err error) {
	if label == "" || len(label) > maxLabel {
		return "", fmt.Errorf("%w: a token label of %d bytes, want 1 to %d", hsm.ErrArgument, len(label), maxLabel)
	}
	modules.mu.Lock()
	defer modules.mu.Unlock()
	m, err := modules.load(modulePath)
	if err != nil {
		return "", err
	}
	m.calls.Lock()
	defer m.calls.Unlock()
	if m.isFinalized() {
		m.initArgs = ""
		if err := m.initialize(); err != nil {
			return "", err
		}
		// crypto11 must find the module uninitialised.
		defer func() { _ = m.ctx.Finalize() }()
	}
	slot, err := m.freeSlot(label)
	if err != nil {
		return "", err
	}
	if err := m.ctx.InitToken(slot, string(soPIN), label); err != nil {
		return "", wrap("C_InitToken", err)
	}
	slot, info, err := m.selectToken(selector{label: label})
	if err != nil {
		return "", err
	}
	if err := m.initPIN(slot, soPIN, pin); err != nil {
		return "", err
	}
	return info.SerialNumber, nil
}

// freeSlot finds a slot with an uninitialised token.
func (m *module) freeSlot(label string) (uint, error) {
	tokens, err := m.tokens()
	if err != nil {
		return 0, err
	}
	free := -1
	for i, t := range tokens {
		switch {
		case initialized(t.info) && t.info.Label == label:
			return 0, fmt.Errorf("%w: the module already holds a token labelled %q", hsm.ErrArgument, label)
		case !initialized(t.info) && free < 0:
			free = i
		}
	}
	if free < 0 {
		return 0, fmt.Errorf("%w: the module %s has no slot with an uninitialised token", hsm.ErrTokenNotFound, m.path)
	}
	return tokens[free].slot, nil
}

// initPIN sets the user PIN of a new token.
func (m *module) initPIN(slot uint, soPIN, pin []byte) error {
	session, err := m.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return wrap("C_OpenSession", err)
	}
	defer func() { _ = m.ctx.CloseSession(session) }()
	if err := check(functionLogin, m.lib.login(sessionHandle(session), pkcs11.CKU_SO, soPIN)); err != nil {
		return err
	}
	defer func() { _ = m.ctx.Logout(session) }()
	return wrap("C_InitPIN", m.ctx.InitPIN(session, string(pin)))
}
