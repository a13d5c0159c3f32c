package pkcs11hsm

import (
	"context"
	"crypto/elliptic"
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
		key, err := t.vacant(s, uid, begun)
		if err != nil {
			return err
		}
		if key == nil {
			begun = true
			if err := t.generate(s, uid, label, spec); err != nil {
				return err
			}
			if key, err = (search{t, s}).key(uid); err != nil {
				return err
			}
		}
		object, err = t.accept(s, key, uid, spec, attributeSet.weaknesses)
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

// vacant makes sure that no key has the UID. When making one has begun, a key that is
// there may be that one, and is returned.
func (t *Token) vacant(s *session, uid hsm.UID, begun bool) (*group, error) {
	key, err := search{t, s}.key(uid)
	if err != nil {
		return nil, err
	}
	if k, _ := t.handles.get(uid); !begun && (k.sessionKey || key != nil) {
		return nil, fmt.Errorf("%w: %s", hsm.ErrKeyExists, uid)
	}
	return key, nil
}

// accept looks at what was made. A key that is incomplete or weaker than asked for, as
// weaknesses sees it, is destroyed.
func (t *Token) accept(s *session, key *group, uid hsm.UID, spec hsm.KeySpec,
	weaknesses func(attributeSet, dialect, hsm.KeySpec) string) (hsm.Object, error) {
	if key == nil {
		return hsm.Object{}, fmt.Errorf("%w: the key %s was made and is not there", hsm.ErrUnavailable, uid)
	}
	weak := key.missing(spec)
	if weak == "" {
		weak = weaknesses(key.main.attributes, t.dialect, spec)
	}
	if weak != "" {
		return hsm.Object{}, t.reject(s, key,
			fmt.Errorf("%w: the token made a key that is weaker than asked for: %s", hsm.ErrUnsupported, weak))
	}
	handle := key.keyHandle()
	handle.spec = spec
	t.handles.put(uid, handle)
	return key.main.attributes.object(uid, spec), nil
}

// reject destroys a key that was made and returns why.
func (t *Token) reject(s *session, key *group, why error) error {
	t.handles.remove(key.uid)
	if err := t.destroyAll(s, key); err != nil {
		return fmt.Errorf("%w (and destroying it failed: %v)", why, err)
	}
	return why
}

// generate makes token objects: through crypto11 where it has a context and knows the kind
// of key, and else directly. The templates are the same, and leave nothing to crypto11's
// defaults. The caller holds the objects lock and module.calls.
func (t *Token) generate(s *session, uid hsm.UID, label string, spec hsm.KeySpec) error {
	d := t.dialect
	if t.module.generator == nil || spec == hsm.Ed25519 {
		if spec.IsPair() {
			_, _, err := t.generatePair(s, spec, d.publicGenerateTemplate(spec, uid, label, true), d.privateTemplate(spec, uid, label, true))
			return err
		}
		_, err := t.generateSecret(s, spec, d.generateTemplate(spec, uid, label, true))
		return err
	}
	if t.generatorAge != t.pool.current() {
		// The module has disowned sessions since. Those of crypto11 are gone, too,
		// or, worse, their numbers have been given to others.
		return errGeneratorLost
	}
	err := generateByCrypto11(t.module.generator, d, uid, label, spec)
	if c, ok := classOf(err); ok && c == classSession {
		return fmt.Errorf("%w: %v", errGeneratorLost, err)
	}
	return err
}

// generateByCrypto11 generates with a session of crypto11's.
func generateByCrypto11(generator *crypto11.Context, d dialect, uid hsm.UID, label string, spec hsm.KeySpec) error {
	if !spec.IsPair() {
		cipher := crypto11.CipherAES
		if spec.Usage() == hsm.UsageMAC {
			cipher = crypto11.CipherGeneric
		}
		_, err := generator.GenerateSecretKeyWithAttributes(attributeSetOf(d.generateTemplate(spec, uid, label, true)), 8*spec.Size(), cipher)
		return wrap("C_GenerateKey", err)
	}
	public := attributeSetOf(d.publicGenerateTemplate(spec, uid, label, true))
	private := attributeSetOf(d.privateTemplate(spec, uid, label, true))
	var err error
	if spec.IsRSA() {
		_, err = generator.GenerateRSAKeyPairWithAttributes(public, private, 8*spec.Size())
	} else {
		_, err = generator.GenerateECDSAKeyPairWithAttributes(public, private, curveOf(spec))
	}
	return wrap("C_GenerateKeyPair", err)
}

// curveOf is the curve of an ECDSA specification.
func curveOf(spec hsm.KeySpec) elliptic.Curve {
	switch spec {
	case hsm.ECDSAP256:
		return elliptic.P256()
	case hsm.ECDSAP384:
		return elliptic.P384()
	default:
		return elliptic.P521()
	}
}

func attributeSetOf(template []*pkcs11.Attribute) crypto11.AttributeSet {
	set := crypto11.NewAttributeSet()
	for _, a := range template {
		set[a.Type] = a
	}
	return set
}

// generateSecret is C_GenerateKey with the specification's mechanism.
func (t *Token) generateSecret(s *session, spec hsm.KeySpec, template []*pkcs11.Attribute) (objectHandle, error) {
	h, err := t.module.ctx.GenerateKey(pkcs11.SessionHandle(s.handle), generationMechanism(spec), template)
	return objectHandle(h), wrap("C_GenerateKey", err)
}

// generatePair is C_GenerateKeyPair with the specification's mechanism.
func (t *Token) generatePair(s *session, spec hsm.KeySpec, public, private []*pkcs11.Attribute) (publicKey, privateKey objectHandle, err error) {
	pub, priv, err := t.module.ctx.GenerateKeyPair(pkcs11.SessionHandle(s.handle), generationMechanism(spec), public, private)
	return objectHandle(pub), objectHandle(priv), wrap("C_GenerateKeyPair", err)
}

func generationMechanism(spec hsm.KeySpec) []*pkcs11.Mechanism {
	kind, _ := kindOf(spec)
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(kind.generate, nil)}
}
