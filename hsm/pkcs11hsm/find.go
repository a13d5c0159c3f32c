package pkcs11hsm

import (
	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// search searches the token with one session. The caller has the session to itself
// and holds module.calls.
type search struct {
	t *Token
	s *session
}

// findBatch is how many handles one C_FindObjects returns.
const findBatch = 512

// objects returns the handles of the objects that match. Without a login there seem
// to be none.
func (q search) objects(template []*pkcs11.Attribute) (handles []objectHandle, err error) {
	ctx, session := q.t.module.ctx, pkcs11.SessionHandle(q.s.handle)
	if err := ctx.FindObjectsInit(session, template); err != nil {
		return nil, wrap("C_FindObjectsInit", err)
	}
	defer func() {
		if e := wrap("C_FindObjectsFinal", ctx.FindObjectsFinal(session)); e != nil && err == nil {
			handles, err = nil, e
		}
	}()
	for {
		batch, _, err := ctx.FindObjects(session, findBatch)
		if err != nil {
			return nil, wrap("C_FindObjects", err)
		}
		if len(batch) == 0 {
			break
		}
		for _, h := range batch {
			handles = append(handles, objectHandle(h))
		}
	}
	return handles, nil
}

// attributes reads attributes of one object. Modules fail the whole call for one
// attribute that they do not know, and then each is read by itself.
func (q search) attributes(h objectHandle, wanted []uint) (attributeSet, error) {
	set, err := q.read(h, wanted)
	if !isCode(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
		return set, err
	}
	set = make(attributeSet)
	for _, attribute := range wanted {
		one, err := q.read(h, []uint{attribute})
		if isCode(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
			continue
		}
		if err != nil {
			return nil, err
		}
		set[attribute] = one[attribute]
	}
	return set, nil
}

func (q search) read(h objectHandle, wanted []uint) (attributeSet, error) {
	template := make([]*pkcs11.Attribute, len(wanted))
	for i, attribute := range wanted {
		template[i] = pkcs11.NewAttribute(attribute, nil)
	}
	got, err := q.t.module.ctx.GetAttributeValue(pkcs11.SessionHandle(q.s.handle), pkcs11.ObjectHandle(h), template)
	if err != nil {
		return nil, wrap("C_GetAttributeValue", err)
	}
	set := make(attributeSet, len(got))
	for _, a := range got {
		set[a.Type] = a.Value
	}
	return set, nil
}

// found is one key object of the token.
type found struct {
	handle     objectHandle
	attributes attributeSet
}

// keys reads the token's secret keys: those with the UID, or all with a CKA_ID that
// could be a UID. An object that is destroyed meanwhile is left out. Private objects
// are invisible without a login, so the answer counts only if there is one at the
// end: then it was there all the time, because nobody logs in while the caller holds
// module.calls. A key that seems to be missing must not be taken for one that is.
func (q search) keys(uid *hsm.UID) ([]found, error) {
	keys, err := q.visibleKeys(uid)
	if err != nil {
		return nil, err
	}
	if err := q.t.state(q.s); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		// Nor does a token hold nothing that cannot be read: SoftHSM2 leaves out objects
		// whose files it could not open.
		if _, err := q.t.module.ctx.GetTokenInfo(q.t.module.slot); err != nil {
			return nil, wrap("C_GetTokenInfo", err)
		}
	}
	return keys, nil
}

func (q search) visibleKeys(uid *hsm.UID) ([]found, error) {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
	}
	if uid != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]))
	}
	handles, err := q.objects(template)
	if err != nil {
		return nil, err
	}
	var keys []found
	for _, h := range handles {
		attributes, err := q.attributes(h, objectAttributes)
		if c, ok := classOf(err); ok && c == classHandle {
			continue
		}
		if err != nil {
			return nil, err
		}
		if _, ok := attributes.uid(); ok {
			keys = append(keys, found{h, attributes})
		}
	}
	return keys, nil
}

// find implements finder.
func (q search) find(uid hsm.UID) (keyHandle, bool, error) {
	keys, err := q.keys(&uid)
	if err != nil || len(keys) == 0 {
		return keyHandle{}, false, err
	}
	return tabulate(keys)[uid], true, nil
}

// enumerate implements finder.
func (q search) enumerate() (map[hsm.UID]keyHandle, error) {
	keys, err := q.keys(nil)
	return tabulate(keys), err
}

// tabulate makes the hot path's table of what was found.
func tabulate(keys []found) map[hsm.UID]keyHandle {
	table := make(map[hsm.UID]keyHandle, len(keys))
	for _, k := range keys {
		uid, _ := k.attributes.uid()
		_, twice := table[uid]
		table[uid] = keyHandle{handle: k.handle, spec: k.attributes.spec(), ambiguous: twice}
	}
	return table
}
