package pkcs11hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// wrappingKeyBytes is the size of the key that is between the RSA key and what is imported.
const wrappingKeyBytes = 32

// errUnwrap is what every wrapping that does not open gives: which of the two steps failed,
// and with which code, could tell what is wrong with the RSA padding.
var errUnwrap = fmt.Errorf("%w: the wrapped key does not open", hsm.ErrAuthentication)

// UnwrapKey implements [hsm.Importer].
func (t *Token) UnwrapKey(ctx context.Context, uid hsm.UID, label string, spec hsm.KeySpec, w hsm.Wrapped) (hsm.Object, error) {
	public, err := t.checkWrapped(spec, &w)
	if err != nil {
		return hsm.Object{}, err
	}
	unlock, err := t.lockObjects(ctx)
	if err != nil {
		return hsm.Object{}, err
	}
	defer unlock()
	var object hsm.Object
	begun := false
	err = t.withHandle(ctx, w.By, func(s *session, by keyHandle) error {
		if by.spec.Usage() != hsm.UsageImport {
			return fmt.Errorf("%w: %s is no key for imports", hsm.ErrKeyNotPermitted, w.By)
		}
		if err := hsm.CheckOAEP(by.spec, w.Hash, w.Key); err != nil {
			return err
		}
		before, err := t.vacant(s, uid, begun)
		if err != nil {
			return err
		}
		begun = true
		if before != nil { // of a try that was cut short: how far it came is not known
			if err := t.destroyAll(s, before); err != nil {
				return err
			}
		}
		if _, err := t.unwrapTwice(s, by.handle, w, t.importTemplate(spec, uid, label, true)); err != nil {
			return err
		}
		object, err = t.acceptImport(s, uid, label, spec, public)
		return err
	})
	if err != nil {
		if begun {
			t.cleanUp(ctx, uid)
		}
		return hsm.Object{}, err
	}
	return object, nil
}

// cleanUp destroys what an import that failed has left, if the token lets it. What stays is
// an object that nobody confirmed. The caller holds the objects lock.
func (t *Token) cleanUp(ctx context.Context, uid hsm.UID) {
	err := t.do(ctx, func(s *session) error {
		left, err := search{t, s}.key(uid)
		if left == nil || err != nil {
			return err
		}
		t.handles.remove(uid)
		return t.destroyAll(s, left)
	})
	if err != nil {
		t.log.ErrorContext(ctx, "an import failed, and what it left in the token was not destroyed", "uid", uid.String(), "error", err)
	}
}

// checkWrapped is what can be said of a request without the token; it returns the public
// key that comes with it, nil if none.
func (t *Token) checkWrapped(spec hsm.KeySpec, w *hsm.Wrapped) (any, error) {
	public, err := hsm.CheckWrapped(spec, w)
	if err != nil {
		return nil, err
	}
	if !t.info.CanImport(spec) || !slices.Contains(t.info.ImportHashes, w.Hash) {
		return nil, fmt.Errorf("%w: importing %s with RSA-OAEP and %v", hsm.ErrUnsupported, spec, w.Hash)
	}
	return public, nil
}

// importTemplate is that of the secret or private key that is unwrapped.
func (t *Token) importTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	if spec.IsPair() {
		return t.dialect.privateTemplate(spec, uid, label, token)
	}
	return t.dialect.secretTemplate(spec, uid, label, token)
}

// unwrapTwice unwraps the AES key with RSA-OAEP, and with that the key of the template. The
// AES key is a session object, which is destroyed whatever happens; if even that fails,
// the session is given up, and the object with it.
func (t *Token) unwrapTwice(s *session, by objectHandle, w hsm.Wrapped, template []*pkcs11.Attribute) (h objectHandle, err error) {
	hash, mgf := hashNumbers(w.Hash)
	oaep := pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_OAEP, pkcs11.NewOAEPParams(hash, mgf, pkcs11.CKZ_DATA_SPECIFIED, nil))
	middle, err := t.unwrap(s, oaep, by, w.Key, t.dialect.unwrappingTemplate())
	if err != nil {
		return 0, err
	}
	defer func() {
		if e := t.destroy(s, middle); e != nil {
			err = giveUp(e)
		}
	}()
	set, err := search{t, s}.attributes(middle, []uint{pkcs11.CKA_VALUE_LEN, pkcs11.CKA_KEY_TYPE})
	if err != nil {
		return 0, err
	}
	if length, known := set.ulong(pkcs11.CKA_VALUE_LEN); known && length != 0 && length != wrappingKeyBytes {
		return 0, errUnwrap
	}
	return t.unwrap(s, pkcs11.NewMechanism(t.dialect.keyWrap, nil), middle, w.Value, template)
}

// giveUp makes an error one after which the session is closed, unless it is gone anyway.
func giveUp(err error) error {
	if c, _ := classOf(err); c == classGone || sessionIsDead(err) {
		return err
	}
	return newCallError("C_DestroyObject", pkcs11.CKR_OPERATION_ACTIVE)
}

// unwrap is C_UnwrapKey. Codes that do not tell of a lost session or token all become
// errUnwrap.
func (t *Token) unwrap(s *session, m *pkcs11.Mechanism, by objectHandle, wrapped []byte, template []*pkcs11.Attribute) (objectHandle, error) {
	h, err := t.module.ctx.UnwrapKey(pkcs11.SessionHandle(s.handle), []*pkcs11.Mechanism{m}, pkcs11.ObjectHandle(by), wrapped, template)
	if err == nil {
		return objectHandle(h), nil
	}
	var e *callError
	if err := wrap("C_UnwrapKey", err); !errors.As(err, &e) {
		return 0, err
	}
	switch e.rv {
	case pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID:
		e = e.as(classHandle, hsm.ErrUnavailable)
	case pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED:
		return 0, e
	}
	if !e.class.isLoss() { // also where the code says it all: the time is not to tell the codes apart
		e = t.diagnose(s, e)
	}
	if e.class.isLoss() {
		return 0, e
	}
	return 0, errUnwrap
}

// unwrappingTemplate is that of the AES key between: it may unwrap, for as long as it is
// there.
func (d dialect) unwrappingTemplate() []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	}
	for _, usage := range secretUsage {
		template = append(template, pkcs11.NewAttribute(usage, usage == pkcs11.CKA_UNWRAP))
	}
	if d.allowedMechanisms {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, ulongBytes(d.keyWrap)))
	}
	return template
}

// acceptImport looks at what was imported, and makes a pair whole. What is not as it should
// be is destroyed.
func (t *Token) acceptImport(s *session, uid hsm.UID, label string, spec hsm.KeySpec, public any) (hsm.Object, error) {
	q := search{t, s}
	key, err := q.key(uid)
	if err != nil {
		return hsm.Object{}, err
	}
	if key == nil || key.main == nil || key.ambiguous() {
		return hsm.Object{}, fmt.Errorf("%w: the key %s was imported and is not there", hsm.ErrUnavailable, uid)
	}
	kind, _ := kindOf(spec)
	if keyType, ok := key.main.attributes.ulong(pkcs11.CKA_KEY_TYPE); !ok || keyType != kind.keyType || !key.main.attributes.fits(spec, kind) {
		return hsm.Object{}, t.reject(s, key, fmt.Errorf("%w: the wrapped key is no %s", hsm.ErrArgument, spec))
	}
	if spec.IsPair() {
		if err := t.complete(s, key, label, spec, public); err != nil {
			return hsm.Object{}, t.reject(s, key, err)
		}
		whole, err := q.key(uid)
		if err != nil {
			return hsm.Object{}, err
		}
		key = whole
	} else if err := t.proveSecret(s, key.main.handle, spec); err != nil {
		return hsm.Object{}, t.reject(s, key, err)
	}
	return t.accept(s, key, uid, spec, attributeSet.importWeaknesses)
}

// complete shows that the public key belongs to the private key, and makes its object.
func (t *Token) complete(s *session, key *group, label string, spec hsm.KeySpec, public any) error {
	public, err := t.provePair(s, key.main, spec, public)
	if err != nil {
		return t.unfit(s, spec, err)
	}
	more, err := t.dialect.publicAttributes(spec, public)
	if err != nil {
		return err
	}
	template := append(t.dialect.publicTemplate(spec, key.uid, label, true), more...)
	_, err = t.module.ctx.CreateObject(pkcs11.SessionHandle(s.handle), template)
	return wrap("C_CreateObject", err)
}
