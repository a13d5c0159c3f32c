package pkcs11hsm

import (
	"encoding/binary"
	"slices"
	"strings"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// keyBytes is the size of every key that is made: AES-256.
const keyBytes = 32

// specMechanism is the one mechanism that a key of the specification may do.
func specMechanism(spec hsm.KeySpec) (mechanism uint, ok bool) {
	switch spec {
	case hsm.AES256Blocks:
		return pkcs11.CKM_AES_ECB, true
	case hsm.AES256GCM:
		return pkcs11.CKM_AES_GCM, true
	default:
		return 0, false
	}
}

// dialect says which attributes a module takes in a template. Modules reject what
// they do not know instead of passing it over.
type dialect struct {
	allowedMechanisms bool // CKA_ALLOWED_MECHANISMS
	copyable          bool // CKA_COPYABLE
}

// keyTemplate is what every key of the specification has, generated or imported:
// all that it may do, and that it may do nothing else. CKA_MODIFIABLE stays true,
// because turning the usage off needs it.
func (d dialect) keyTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	mechanism, _ := specMechanism(spec)
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, token),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, spec == hsm.AES256GCM),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
	}
	if d.copyable {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_COPYABLE, false))
	}
	if d.allowedMechanisms {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, ulongBytes(mechanism)))
	}
	return template
}

// generateTemplate is keyTemplate for C_GenerateKey.
func (d dialect) generateTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	return append(d.keyTemplate(spec, uid, label, token), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keyBytes))
}

// usageTemplate turns the usage attributes of the specification on or off.
func usageTemplate(spec hsm.KeySpec, usable bool) []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, usable)}
	if spec == hsm.AES256GCM {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, usable))
	}
	return template
}

// ulongSize is sizeof(CK_ULONG): a C unsigned long, the size of a pointer on every
// Unix.
const ulongSize = int(unsafe.Sizeof(uintptr(0)))

// ulongBytes is a CK_ULONG in memory.
func ulongBytes(v uint) []byte {
	b := make([]byte, 8)
	binary.NativeEndian.PutUint64(b, uint64(v))
	return b[:ulongSize]
}

// ulongs is an array of CK_ULONG; what is no whole number of them is dropped.
func ulongs(b []byte) []uint {
	var list []uint
	for ; len(b) >= ulongSize; b = b[ulongSize:] {
		list = append(list, uint(binary.NativeEndian.Uint64(b)))
	}
	return list
}

// attributeSet is what a token says of one object. An attribute that the token
// does not give is absent.
type attributeSet map[uint][]byte

// objectAttributes are those that attributeSet.object needs.
var objectAttributes = []uint{
	pkcs11.CKA_ID, pkcs11.CKA_LABEL, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_VALUE_LEN,
	pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE,
	pkcs11.CKA_LOCAL, pkcs11.CKA_MODIFIABLE, pkcs11.CKA_COPYABLE, pkcs11.CKA_ALLOWED_MECHANISMS,
	pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_VERIFY,
	pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE,
}

func (a attributeSet) is(attribute uint) bool {
	v := a[attribute]
	return len(v) > 0 && v[0] != 0
}

func (a attributeSet) ulong(attribute uint) (uint, bool) {
	if list := ulongs(a[attribute]); len(list) == 1 {
		return list[0], true
	}
	return 0, false
}

// uid is CKA_ID if it has the length of a UID.
func (a attributeSet) uid() (hsm.UID, bool) {
	id := a[pkcs11.CKA_ID]
	if len(id) != len(hsm.UID{}) {
		return hsm.UID{}, false
	}
	return hsm.UID(id), true
}

// spec recognises an object that was made to one of our specifications: an AES-256
// key that may do nothing beyond the specification. Without a list of mechanisms
// the usage attributes must tell, which they cannot when they are off.
func (a attributeSet) spec() hsm.KeySpec {
	keyType, ok := a.ulong(pkcs11.CKA_KEY_TYPE)
	if length, known := a.ulong(pkcs11.CKA_VALUE_LEN); !ok || keyType != pkcs11.CKK_AES || known && length != keyBytes {
		return 0
	}
	for _, foreign := range []uint{pkcs11.CKA_SIGN, pkcs11.CKA_VERIFY, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE} {
		if a.is(foreign) {
			return 0
		}
	}
	mechanisms := ulongs(a[pkcs11.CKA_ALLOWED_MECHANISMS])
	encrypt, decrypt := a.is(pkcs11.CKA_ENCRYPT), a.is(pkcs11.CKA_DECRYPT)
	switch {
	case len(mechanisms) > 1:
		return 0
	case len(mechanisms) == 1 && mechanisms[0] == pkcs11.CKM_AES_ECB && !decrypt:
		return hsm.AES256Blocks
	case len(mechanisms) == 1 && mechanisms[0] == pkcs11.CKM_AES_GCM:
		return hsm.AES256GCM
	case len(mechanisms) == 0 && encrypt && !decrypt:
		return hsm.AES256Blocks
	case len(mechanisms) == 0 && encrypt && decrypt:
		return hsm.AES256GCM
	default:
		return 0
	}
}

// object is the report of the object with the given UID.
func (a attributeSet) object(uid hsm.UID) hsm.Object {
	o := hsm.Object{
		UID:              uid,
		Label:            string(a[pkcs11.CKA_LABEL]),
		Spec:             a.spec(),
		Usable:           a.is(pkcs11.CKA_ENCRYPT),
		Sensitive:        a.is(pkcs11.CKA_SENSITIVE),
		Extractable:      a.is(pkcs11.CKA_EXTRACTABLE),
		AlwaysSensitive:  a.is(pkcs11.CKA_ALWAYS_SENSITIVE),
		NeverExtractable: a.is(pkcs11.CKA_NEVER_EXTRACTABLE),
		Local:            a.is(pkcs11.CKA_LOCAL),
		Modifiable:       a.is(pkcs11.CKA_MODIFIABLE),
		Copyable:         true,
	}
	if o.Spec == hsm.AES256GCM {
		o.Usable = o.Usable && a.is(pkcs11.CKA_DECRYPT)
	}
	if v, ok := a[pkcs11.CKA_COPYABLE]; ok && len(v) > 0 {
		o.Copyable = v[0] != 0
	}
	for _, m := range ulongs(a[pkcs11.CKA_ALLOWED_MECHANISMS]) {
		o.Mechanisms = append(o.Mechanisms, mechanismName(m))
	}
	return o
}

// weaknesses names what is weaker in a generated object than was asked for. CKA_LOCAL
// is not looked at: NSS says false of every token object, those it generated too.
func (a attributeSet) weaknesses(d dialect, spec hsm.KeySpec) string {
	var found []string
	report := func(bad bool, what string) {
		if bad {
			found = append(found, what)
		}
	}
	report(!a.is(pkcs11.CKA_SENSITIVE), "not CKA_SENSITIVE")
	report(a.is(pkcs11.CKA_EXTRACTABLE), "CKA_EXTRACTABLE")
	report(!a.is(pkcs11.CKA_ALWAYS_SENSITIVE), "not CKA_ALWAYS_SENSITIVE")
	report(!a.is(pkcs11.CKA_NEVER_EXTRACTABLE), "not CKA_NEVER_EXTRACTABLE")
	report(a.spec() != spec, "usage beyond "+spec.String())
	if mechanism, _ := specMechanism(spec); d.allowedMechanisms {
		report(!slices.Equal(ulongs(a[pkcs11.CKA_ALLOWED_MECHANISMS]), []uint{mechanism}), "CKA_ALLOWED_MECHANISMS not kept")
	}
	return strings.Join(found, ", ")
}
