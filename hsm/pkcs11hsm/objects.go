package pkcs11hsm

import (
	"context"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// lockObjects takes the one lock around creating and destroying objects, which
// modules do concurrently at their peril (SoftHSM2 issue 573).
func (t *Token) lockObjects(ctx context.Context) (unlock func(), err error) {
	select {
	case t.module.objects <- struct{}{}:
		return func() { <-t.module.objects }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Keys implements [hsm.Objects].
func (t *Token) Keys(ctx context.Context) ([]hsm.Object, error) {
	var objects []hsm.Object
	err := t.do(ctx, func(s *session) error {
		keys, err := search{t, s}.keys(nil)
		if err != nil {
			return err
		}
		t.handles.replace(tabulate(keys))
		objects = make([]hsm.Object, 0, len(keys))
		for _, k := range keys {
			objects = append(objects, k.object())
		}
		return nil
	})
	return objects, err
}

// Key implements [hsm.Objects].
func (t *Token) Key(ctx context.Context, uid hsm.UID) (hsm.Object, error) {
	var object hsm.Object
	err := t.do(ctx, func(s *session) error {
		key, err := search{t, s}.key(uid)
		if err != nil {
			return err
		}
		if key == nil {
			if k, ok := t.handles.get(uid); ok && !k.sessionKey {
				t.handles.remove(uid)
			}
			return fmt.Errorf("%w: %s", hsm.ErrKeyNotFound, uid)
		}
		t.handles.put(uid, key.keyHandle())
		if key.ambiguous() {
			return fmt.Errorf("%w: several objects of the token have the UID %s", hsm.ErrKeyNotPermitted, uid)
		}
		object = key.object()
		return nil
	})
	return object, err
}

// SetUsable implements [hsm.Objects]. Attributes that are right already are not written:
// SoftHSM2 truncates an object's file before it writes it anew, so a process that ends
// in between has lost the key.
func (t *Token) SetUsable(ctx context.Context, uid hsm.UID, usable bool) error {
	if !t.info.UsageSwitch {
		return fmt.Errorf("%w: usage attributes cannot be switched", hsm.ErrUnsupported)
	}
	return t.writeHandle(ctx, uid, func(s *session, k keyHandle) error {
		if k.spec == 0 {
			return fmt.Errorf("%w: %s was not made by this software", hsm.ErrUnsupported, uid)
		}
		if set, err := t.usageIs(s, k, usable); set || err != nil {
			return err
		}
		err := t.module.ctx.SetAttributeValue(pkcs11.SessionHandle(s.handle), pkcs11.ObjectHandle(k.handle),
			usageTemplate(k.spec, usable))
		if err != nil {
			return wrap("C_SetAttributeValue", err)
		}
		set, err := t.usageIs(s, k, usable)
		if err == nil && !set {
			err = fmt.Errorf("%w: the token did not keep the usage attributes", hsm.ErrUnsupported)
		}
		return err
	})
}

// usageIs reports whether the usage attributes of a key are as usageTemplate sets them.
func (t *Token) usageIs(s *session, k keyHandle, usable bool) (bool, error) {
	kind, _ := kindOf(k.spec)
	set, err := search{t, s}.attributes(k.handle, kind.usage)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(kind.usage, func(usage uint) bool { return set.is(usage) != usable }), nil
}

// SetLabel implements [hsm.Objects]. A label that is right already is not written, for
// the reason that SetUsable has.
func (t *Token) SetLabel(ctx context.Context, uid hsm.UID, label string) error {
	if !t.info.LabelSwitch {
		return fmt.Errorf("%w: labels cannot be changed", hsm.ErrUnsupported)
	}
	return t.writeHandle(ctx, uid, func(s *session, k keyHandle) error {
		if k.spec == 0 {
			return fmt.Errorf("%w: %s was not made by this software", hsm.ErrUnsupported, uid)
		}
		for _, h := range []objectHandle{k.handle, k.public} {
			if h == 0 {
				continue
			}
			if err := t.setLabel(s, h, label); err != nil {
				return err
			}
		}
		return nil
	})
}

// setLabel writes a label, and looks whether it was kept. If it is neither that one nor
// the one before, another process has written its own meanwhile.
func (t *Token) setLabel(s *session, h objectHandle, label string) error {
	before, err := t.labelOf(s, h)
	if err != nil || before == label {
		return err
	}
	if err := t.writeLabel(s, h, label); err != nil {
		return err
	}
	after, err := t.labelOf(s, h)
	if err == nil && after == before {
		err = fmt.Errorf("%w: the token did not keep the label", hsm.ErrUnsupported)
	}
	return err
}

// writeLabel is C_SetAttributeValue of CKA_LABEL alone.
func (t *Token) writeLabel(s *session, h objectHandle, label string) error {
	return wrap("C_SetAttributeValue", t.module.ctx.SetAttributeValue(pkcs11.SessionHandle(s.handle),
		pkcs11.ObjectHandle(h), []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}))
}

func (t *Token) labelOf(s *session, h objectHandle) (string, error) {
	set, err := search{t, s}.attributes(h, []uint{pkcs11.CKA_LABEL})
	return string(set[pkcs11.CKA_LABEL]), err
}

// DestroyKey implements [hsm.Objects]. Should several objects have the UID, all of
// them go.
func (t *Token) DestroyKey(ctx context.Context, uid hsm.UID) error {
	unlock, err := t.lockObjects(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	begun := false // an object was there, and may be gone when f runs again
	return t.do(ctx, func(s *session) error {
		if k, ok := t.handles.get(uid); ok && k.sessionKey {
			t.handles.remove(uid)
			return t.destroy(s, k.handle)
		}
		q := search{t, s}
		key, err := q.key(uid)
		if err != nil {
			return err
		}
		if key == nil && !begun {
			return fmt.Errorf("%w: %s", hsm.ErrKeyNotFound, uid)
		}
		begun = true
		t.handles.remove(uid)
		if key != nil {
			if err := t.destroyAll(s, key); err != nil {
				return err
			}
		}
		// A module may report success and keep the object (SoftHSM2 issue 903).
		if key, err = q.key(uid); err != nil {
			return err
		}
		if key != nil {
			return fmt.Errorf("%w: C_DestroyObject succeeded but the object %s is still there", hsm.ErrUnavailable, uid)
		}
		return nil
	})
}

// destroyAll destroys every object of a key. The caller holds the objects lock and
// module.calls.
func (t *Token) destroyAll(s *session, key *group) error {
	for _, h := range key.handles() {
		if err := t.destroy(s, h); err != nil {
			return err
		}
	}
	return nil
}

// destroy is C_DestroyObject. The caller holds the objects lock and module.calls.
func (t *Token) destroy(s *session, h objectHandle) error {
	return wrap("C_DestroyObject",
		t.module.ctx.DestroyObject(pkcs11.SessionHandle(s.handle), pkcs11.ObjectHandle(h)))
}

// ImportSessionKey implements [hsm.Objects].
func (t *Token) ImportSessionKey(ctx context.Context, uid hsm.UID, spec hsm.KeySpec, value []byte) error {
	if err := t.checkSpec(spec); err != nil {
		return err
	}
	if spec.IsPair() {
		return fmt.Errorf("%w: session keys of %s", hsm.ErrUnsupported, spec)
	}
	if len(value) != spec.Size() {
		return fmt.Errorf("%w: a key of %d bytes", hsm.ErrArgument, len(value))
	}
	if !t.info.SessionKeys {
		return fmt.Errorf("%w: session keys", hsm.ErrUnsupported)
	}
	unlock, err := t.lockObjects(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return t.do(ctx, func(s *session) error {
		key, err := search{t, s}.key(uid)
		if err != nil {
			return err
		}
		if k, _ := t.handles.get(uid); k.sessionKey || key != nil {
			return fmt.Errorf("%w: %s", hsm.ErrKeyExists, uid)
		}
		return t.withAnchor(func(anchor *session) error {
			h, err := t.createSessionKey(anchor, uid, spec, value)
			if err != nil {
				return err
			}
			t.handles.put(uid, keyHandle{handle: h, spec: spec, sessionKey: true})
			return nil
		})
	})
}

// createSessionKey makes a session object of a known value, which ends with s.
func (t *Token) createSessionKey(s *session, uid hsm.UID, spec hsm.KeySpec, value []byte) (objectHandle, error) {
	template := append(t.dialect.secretTemplate(spec, uid, "", false), pkcs11.NewAttribute(pkcs11.CKA_VALUE, value))
	h, err := t.module.ctx.CreateObject(pkcs11.SessionHandle(s.handle), template)
	return objectHandle(h), wrap("C_CreateObject", err)
}

// checkSpec tells a specification that does not exist from one that this token lacks.
func (t *Token) checkSpec(spec hsm.KeySpec) error {
	if !spec.Valid() {
		return fmt.Errorf("%w: key specification %d", hsm.ErrArgument, spec)
	}
	if !t.info.Supports(spec) {
		return fmt.Errorf("%w: %s", hsm.ErrUnsupported, spec)
	}
	return nil
}
