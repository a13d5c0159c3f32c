package pkcs11hsm

import (
	"encoding/binary"
	"slices"
	"strings"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

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

// Attributes are read class by class: modules fail a whole call for one that an object of
// its class or type does not have.
var (
	// classAttributes tell what an object is.
	classAttributes = []uint{pkcs11.CKA_CLASS, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_ID}

	// protection is what secret and private keys have alike.
	protection = []uint{
		pkcs11.CKA_LABEL, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE,
		pkcs11.CKA_LOCAL, pkcs11.CKA_MODIFIABLE, pkcs11.CKA_PRIVATE, pkcs11.CKA_KEY_GEN_MECHANISM,
		pkcs11.CKA_COPYABLE, pkcs11.CKA_ALLOWED_MECHANISMS,
	}
	secretUsage = []uint{
		pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_VERIFY, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE,
	}
	privateUsage = []uint{pkcs11.CKA_DECRYPT, pkcs11.CKA_SIGN, pkcs11.CKA_SIGN_RECOVER, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE}
	publicUsage  = []uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_VERIFY, pkcs11.CKA_VERIFY_RECOVER, pkcs11.CKA_WRAP}

	secretAttributes = slices.Concat(protection, secretUsage, []uint{pkcs11.CKA_VALUE_LEN})
)

// attributesOf lists what is read of an object of the class and key type; nil if it is no
// key.
func attributesOf(class, keyType uint) []uint {
	rsa := []uint{pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT}
	switch class {
	case pkcs11.CKO_SECRET_KEY:
		return secretAttributes
	case pkcs11.CKO_PRIVATE_KEY:
		switch keyType {
		case pkcs11.CKK_RSA:
			return slices.Concat(protection, privateUsage, rsa)
		case pkcs11.CKK_EC, ckkECEdwards:
			return slices.Concat(protection, privateUsage, []uint{pkcs11.CKA_EC_PARAMS})
		default:
			return slices.Concat(protection, privateUsage)
		}
	case pkcs11.CKO_PUBLIC_KEY:
		common := slices.Concat([]uint{pkcs11.CKA_LABEL}, publicUsage)
		switch keyType {
		case pkcs11.CKK_RSA:
			return append(common, rsa...)
		case pkcs11.CKK_EC, ckkECEdwards:
			return append(common, pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT)
		default:
			return common
		}
	default:
		return nil
	}
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

// usage lists the usage attributes that are on, of a secret or private key.
func (a attributeSet) usage() (on []uint) {
	for _, attribute := range slices.Concat(secretUsage, []uint{pkcs11.CKA_SIGN_RECOVER, pkcs11.CKA_VERIFY_RECOVER}) {
		if a.is(attribute) {
			on = append(on, attribute)
		}
	}
	return on
}

// spec recognises a secret or private key that was made to one of our specifications.
// Where all usage attributes are off several may match: then the public key of the pair,
// which may be nil, tells.
func (a attributeSet) spec(public attributeSet) hsm.KeySpec {
	var matching []hsm.KeySpec
	for _, spec := range hsm.KeySpecs() {
		if a.matches(spec) {
			matching = append(matching, spec)
		}
	}
	if len(matching) > 1 {
		matching = slices.DeleteFunc(matching, func(spec hsm.KeySpec) bool {
			kind, _ := kindOf(spec)
			return !public.is(kind.public)
		})
	}
	if len(matching) != 1 {
		return 0
	}
	return matching[0]
}

// report is what the token says of a Boolean attribute.
func (a attributeSet) report(attribute uint) hsm.Report {
	if len(a[attribute]) == 0 {
		return hsm.NotReported
	}
	return hsm.ReportOf(a.is(attribute))
}

// object is the report of a secret or private key of the given UID and specification.
func (a attributeSet) object(uid hsm.UID, spec hsm.KeySpec) hsm.Object {
	o := hsm.Object{
		UID:              uid,
		Label:            string(a[pkcs11.CKA_LABEL]),
		Spec:             spec,
		Usable:           a.usable(spec),
		Sensitive:        a.is(pkcs11.CKA_SENSITIVE),
		Extractable:      a.is(pkcs11.CKA_EXTRACTABLE),
		AlwaysSensitive:  a.is(pkcs11.CKA_ALWAYS_SENSITIVE),
		NeverExtractable: a.is(pkcs11.CKA_NEVER_EXTRACTABLE),
		Local:            a.is(pkcs11.CKA_LOCAL),
		Modifiable:       a.is(pkcs11.CKA_MODIFIABLE),
		Copyable:         a.report(pkcs11.CKA_COPYABLE) != hsm.ReportedFalse,
		Attributes: hsm.Attributes{
			Local:            a.report(pkcs11.CKA_LOCAL),
			Sensitive:        a.report(pkcs11.CKA_SENSITIVE),
			AlwaysSensitive:  a.report(pkcs11.CKA_ALWAYS_SENSITIVE),
			Extractable:      a.report(pkcs11.CKA_EXTRACTABLE),
			NeverExtractable: a.report(pkcs11.CKA_NEVER_EXTRACTABLE),
			Modifiable:       a.report(pkcs11.CKA_MODIFIABLE),
			Copyable:         a.report(pkcs11.CKA_COPYABLE),
			Private:          a.report(pkcs11.CKA_PRIVATE),
		},
	}
	if m, ok := a.ulong(pkcs11.CKA_KEY_GEN_MECHANISM); ok && m != pkcs11.CK_UNAVAILABLE_INFORMATION {
		o.Attributes.KeyGenMechanism = mechanismName(m)
	}
	for _, m := range ulongs(a[pkcs11.CKA_ALLOWED_MECHANISMS]) {
		o.Mechanisms = append(o.Mechanisms, mechanismName(m))
	}
	return o
}

// usable reports whether the usage attributes of the specification are all on; of a key of
// none, whether any is.
func (a attributeSet) usable(spec hsm.KeySpec) bool {
	kind, ok := kindOf(spec)
	if !ok {
		return len(a.usage()) > 0
	}
	return !slices.ContainsFunc(kind.usage, func(attribute uint) bool { return !a.is(attribute) })
}

// weaknesses names what is weaker in a generated key than was asked for. CKA_LOCAL is not
// looked at: NSS says false of every token object, those it generated too.
func (a attributeSet) weaknesses(d dialect, spec hsm.KeySpec) string {
	found := a.exposures(d, spec)
	report := func(bad bool, what string) {
		if bad {
			found = append(found, what)
		}
	}
	report(!a.is(pkcs11.CKA_ALWAYS_SENSITIVE), "not CKA_ALWAYS_SENSITIVE")
	report(!a.is(pkcs11.CKA_NEVER_EXTRACTABLE), "not CKA_NEVER_EXTRACTABLE")
	report(spec.IsRSA() && !slices.Equal(trimZeros(a[pkcs11.CKA_PUBLIC_EXPONENT]), publicExponent), "another CKA_PUBLIC_EXPONENT")
	return strings.Join(found, ", ")
}

// importWeaknesses names what is weaker in an imported key than was asked for, or says
// that it was not imported.
func (a attributeSet) importWeaknesses(d dialect, spec hsm.KeySpec) string {
	found := a.exposures(d, spec)
	if a.is(pkcs11.CKA_LOCAL) {
		found = append(found, "CKA_LOCAL")
	}
	return strings.Join(found, ", ")
}

// exposures are the weaknesses that count whatever a key's origin.
func (a attributeSet) exposures(d dialect, spec hsm.KeySpec) (found []string) {
	report := func(bad bool, what string) {
		if bad {
			found = append(found, what)
		}
	}
	report(!a.is(pkcs11.CKA_PRIVATE), "not CKA_PRIVATE")
	report(!a.is(pkcs11.CKA_SENSITIVE), "not CKA_SENSITIVE")
	report(a.is(pkcs11.CKA_EXTRACTABLE), "CKA_EXTRACTABLE")
	report(!a.matches(spec), "usage beyond "+spec.String())
	if d.allowedMechanisms {
		got, want := ulongs(a[pkcs11.CKA_ALLOWED_MECHANISMS]), d.mechanisms(spec)
		slices.Sort(got)
		report(!slices.Equal(got, want), "CKA_ALLOWED_MECHANISMS not kept")
	}
	return found
}
