package pkcs11hsm

import (
	"maps"

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

// keys reads the token's keys: those with the UID, of which there is one or none, or all
// with a CKA_ID that could be a UID. An object that is destroyed meanwhile is left out.
// Private objects are invisible without a login, so the answer counts only if there is one
// at the end: then it was there all the time, because nobody logs in while the caller holds
// module.calls. A key that seems to be missing must not be taken for one that is.
func (q search) keys(uid *hsm.UID) ([]*group, error) {
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
		if err := q.t.present(); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

// key is the group of one UID; nil if the token holds no object with it.
func (q search) key(uid hsm.UID) (*group, error) {
	keys, err := q.keys(&uid)
	if err != nil || len(keys) == 0 {
		return nil, err
	}
	return keys[0], nil
}

// visibleKeys searches once for objects of every class: a search costs the token as much
// as it holds objects.
func (q search) visibleKeys(uid *hsm.UID) ([]*group, error) {
	defer q.t.gates.search()()
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}
	if uid != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]))
	}
	handles, err := q.objects(template)
	if err != nil {
		return nil, err
	}
	var keys []*group
	byUID := make(map[hsm.UID]*group)
	for _, h := range handles {
		f, ok, err := q.identify(h)
		if c, is := classOf(err); is && c == classHandle {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		id, _ := f.attributes.uid()
		if byUID[id] == nil {
			byUID[id] = &group{uid: id}
			keys = append(keys, byUID[id])
		}
		byUID[id].add(f)
	}
	return keys, nil
}

// identify reads what is needed of an object; ok is false if it is no key with a UID.
func (q search) identify(h objectHandle) (f found, ok bool, err error) {
	set, err := q.attributes(h, classAttributes)
	if err != nil {
		return found{}, false, err
	}
	class, _ := set.ulong(pkcs11.CKA_CLASS)
	keyType, typed := set.ulong(pkcs11.CKA_KEY_TYPE)
	wanted := attributesOf(class, keyType)
	if _, ok := set.uid(); !ok || !typed || wanted == nil {
		return found{}, false, nil
	}
	more, err := q.attributes(h, wanted)
	if err != nil {
		return found{}, false, err
	}
	maps.Copy(more, set)
	return found{handle: h, class: class, attributes: more}, true, nil
}

// find implements finder.
func (q search) find(uid hsm.UID) (keyHandle, bool, error) {
	key, err := q.key(uid)
	if err != nil || key == nil {
		return keyHandle{}, false, err
	}
	return key.keyHandle(), true, nil
}

// enumerate implements finder.
func (q search) enumerate() (map[hsm.UID]keyHandle, error) {
	keys, err := q.keys(nil)
	return tabulate(keys), err
}

// tabulate makes the hot path's table of what was found.
func tabulate(keys []*group) map[hsm.UID]keyHandle {
	table := make(map[hsm.UID]keyHandle, len(keys))
	for _, k := range keys {
		table[k.uid] = k.keyHandle()
	}
	return table
}
