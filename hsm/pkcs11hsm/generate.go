package pkcs11hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// errGeneratorLost: crypto11's own session is gone, or may be. It never comes back in
// that context.
var errGeneratorLost = errors.New("crypto11's session was lost")

// GenerateKey implements [hsm.Objects].
func (t *Token) GenerateKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec) (hsm.Object, error) {
	if err := t.checkSpec(spec); err != nil {
		return hsm.Object{}, err
	}
	unlock, err := t.lockObjects(ctx)
	if err != nil {
		return hsm.Object{}, err
	}
	defer unlock()
	var object hsm.Object
	begun := false // whether a key that exists may be the one made here
	generate := func(s *session) error {
		q := search{t, s}
		keys, err := q.keys(&uid)
		if err != nil {
			return err
		}
		if k, _ := t.handles.get(uid); !begun && (k.sessionKey || len(keys) > 0) {
			return fmt.Errorf("%w: %s", hsm.ErrKeyExists, uid)
		}
		if len(keys) == 0 {
			begun = true
			if err := t.generate(s, uid, label, spec); err != nil {
				return err
			}
			if keys, err = q.keys(&uid); err != nil {
				return err
			}
		}
		if len(keys) != 1 {
			return fmt.Errorf("%w: %d objects have the UID %s after generating one", hsm.ErrUnavailable, len(keys), uid)
		}
		object, err = t.accept(s, keys[0], uid, spec)
		return err
	}
	err = t.do(ctx, generate)
	if errors.Is(err, errGeneratorLost) {
		generation := t.pool.current()
		if err := modules.renewGenerator(t.module); err != nil {
			return hsm.Object{}, fmt.Errorf("%w: %v", hsm.ErrUnavailable, err)
		}
		t.generatorAge = generation
		err = t.do(ctx, generate)
	}
	if errors.Is(err, errGeneratorLost) {
		return hsm.Object{}, fmt.Errorf("%w: %v", hsm.ErrUnavailable, err)
	}
	if err != nil {
		return hsm.Object{}, err
	}
	return object, nil
}

// accept reads back what was generated. A key that is weaker than asked for is
// destroyed.
func (t *Token) accept(s *session, k found, uid hsm.UID, spec hsm.KeySpec) (hsm.Object, error) {
	if weak := k.attributes.weaknesses(t.dialect, spec); weak != "" {
		err := fmt.Errorf("%w: the token made a key that is weaker than asked for: %s", hsm.ErrUnsupported, weak)
		if e := t.destroy(s, k.handle); e != nil {
			return hsm.Object{}, fmt.Errorf("%w (and destroying it failed: %v)", err, e)
		}
		return hsm.Object{}, err
	}
	t.handles.put(uid, keyHandle{handle: k.handle, spec: spec})
	return k.attributes.object(uid), nil
}

// generate makes a token object: through crypto11 where it has a context, and else
// with C_GenerateKey. The template is the same. The caller holds the objects lock
// and module.calls.
func (t *Token) generate(s *session, uid hsm.UID, label string, spec hsm.KeySpec) error {
	template := t.dialect.generateTemplate(spec, uid, label, true)
	if t.module.generator == nil {
		_, err := t.generateKey(s, template)
		return err
	}
	if t.generatorAge != t.pool.current() {
		// The module has disowned sessions since. Those of crypto11 are gone, too,
		// or, worse, their numbers have been given to others.
		return errGeneratorLost
	}
	set := crypto11.NewAttributeSet()
	for _, a := range template {
		set[a.Type] = a
	}
	_, err := t.module.generator.GenerateSecretKeyWithAttributes(set, 8*keyBytes, crypto11.CipherAES)
	err = wrap("C_GenerateKey", err)
	if c, ok := classOf(err); ok && c == classSession {
		return fmt.Errorf("%w: %v", errGeneratorLost, err)
	}
	return err
}

// generateKey is C_GenerateKey with CKM_AES_KEY_GEN.
func (t *Token) generateKey(s *session, template []*pkcs11.Attribute) (objectHandle, error) {
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}
	h, err := t.module.ctx.GenerateKey(pkcs11.SessionHandle(s.handle), mechanism, template)
	return objectHandle(h), wrap("C_GenerateKey", err)
}
