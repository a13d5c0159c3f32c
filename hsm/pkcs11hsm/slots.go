package pkcs11hsm

import (
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// selector names a token by label, by serial number, or by both. Slot numbers are
// no names: SoftHSM gives out random ones, others renumber.
type selector struct {
	label  string
	serial string
}

func (s selector) String() string {
	switch {
	case s.serial == "":
		return fmt.Sprintf("label %q", s.label)
	case s.label == "":
		return fmt.Sprintf("serial number %q", s.serial)
	default:
		return fmt.Sprintf("label %q and serial number %q", s.label, s.serial)
	}
}

func (s selector) matches(info pkcs11.TokenInfo) bool {
	return (s.label == "" || s.label == info.Label) && (s.serial == "" || s.serial == info.SerialNumber)
}

// slotToken is a slot and the token in it.
type slotToken struct {
	slot uint
	info pkcs11.TokenInfo
}

// tokens lists the slots with a token. A slot whose token gives no information is
// left out: one broken slot must not hide the others.
func (m *module) tokens() ([]slotToken, error) {
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return nil, wrap("C_GetSlotList", err)
	}
	var tokens []slotToken
	for _, slot := range slots {
		if info, err := m.ctx.GetTokenInfo(slot); err == nil {
			tokens = append(tokens, slotToken{slot, info})
		}
	}
	return tokens, nil
}

func initialized(info pkcs11.TokenInfo) bool { return info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 }

// selectToken finds the one token that want names.
func (m *module) selectToken(want selector) (uint, pkcs11.TokenInfo, error) {
	tokens, err := m.tokens()
	if err != nil {
		return 0, pkcs11.TokenInfo{}, err
	}
	var found []slotToken
	var labels []string
	for _, t := range tokens {
		if !initialized(t.info) {
			continue
		}
		labels = append(labels, fmt.Sprintf("%q (serial number %q)", t.info.Label, t.info.SerialNumber))
		if want.matches(t.info) {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 1:
		return found[0].slot, found[0].info, nil
	case len(found) > 1:
		return 0, pkcs11.TokenInfo{}, fmt.Errorf("%w: %d tokens match %s; the module %s holds %s",
			hsm.ErrTokenNotFound, len(found), want, m.path, strings.Join(labels, ", "))
	case len(labels) == 0:
		return 0, pkcs11.TokenInfo{}, fmt.Errorf("%w: %s; the module %s holds no initialised token",
			hsm.ErrTokenNotFound, want, m.path)
	default:
		return 0, pkcs11.TokenInfo{}, fmt.Errorf("%w: %s; the module %s holds %s",
			hsm.ErrTokenNotFound, want, m.path, strings.Join(labels, ", "))
	}
}
