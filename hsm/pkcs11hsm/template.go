package pkcs11hsm

import (
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// publicExponent is the one that RSA keys are made with: 65537 (FIPS 186-5, A.1.1).
var publicExponent = []byte{1, 0, 1}

// dialect says which attributes a module takes in a template. Modules reject what
// they do not know instead of passing it over.
type dialect struct {
	allowedMechanisms bool   // CKA_ALLOWED_MECHANISMS
	copyable          bool   // CKA_COPYABLE
	edwards           int    // which encoding of CKA_EC_PARAMS an Ed25519 key has
	keyWrap           uint   // which of keyWraps
	without           []uint // mechanisms that the token does not have
}

// mechanisms is the content of CKA_ALLOWED_MECHANISMS, sorted: what the specification
// allows and the token has.
func (d dialect) mechanisms(spec hsm.KeySpec) []uint {
	kind, _ := kindOf(spec)
	list := slices.DeleteFunc(kind.mechanisms, func(m uint) bool { return slices.Contains(d.without, m) })
	slices.Sort(list)
	return list
}

// secretTemplate is what every secret key of the specification has, generated or imported:
// all that it may do, and that it may do nothing else. CKA_MODIFIABLE stays true,
// because turning the usage off needs it.
func (d dialect) secretTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	return d.protect(pkcs11.CKO_SECRET_KEY, secretUsage, spec, uid, label, token)
}

// generateTemplate is secretTemplate for C_GenerateKey.
func (d dialect) generateTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	return append(d.secretTemplate(spec, uid, label, token), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, spec.Size()))
}

// privateTemplate is what every private key of the specification has.
func (d dialect) privateTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	return d.protect(pkcs11.CKO_PRIVATE_KEY, privateUsage, spec, uid, label, token)
}

// protect is the template of a secret or private key whose class has the given usage
// attributes.
func (d dialect) protect(class uint, usages []uint, spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	kind, _ := kindOf(spec)
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, class),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind.keyType),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, token),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	}
	for _, usage := range usages {
		template = append(template, pkcs11.NewAttribute(usage, slices.Contains(kind.usage, usage)))
	}
	if d.copyable {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_COPYABLE, false))
	}
	if d.allowedMechanisms {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, ulongsBytes(d.mechanisms(spec))))
	}
	return template
}

// publicTemplate is what every public key of the specification has. It may do the opposite
// of what the private key does, so that the pair can be recognised when that is off. It is
// no secret, and visible without a login.
func (d dialect) publicTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	kind, _ := kindOf(spec)
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kind.keyType),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, token),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	for _, usage := range publicUsage {
		template = append(template, pkcs11.NewAttribute(usage, usage == kind.public))
	}
	return template
}

// publicGenerateTemplate is publicTemplate for C_GenerateKeyPair.
func (d dialect) publicGenerateTemplate(spec hsm.KeySpec, uid hsm.UID, label string, token bool) []*pkcs11.Attribute {
	template := d.publicTemplate(spec, uid, label, token)
	if spec.IsRSA() {
		return append(template,
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 8*spec.Size()),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, publicExponent))
	}
	return append(template, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, d.curve(spec)))
}

// curve is CKA_EC_PARAMS as the module wants it.
func (d dialect) curve(spec hsm.KeySpec) []byte {
	kind, _ := kindOf(spec)
	if spec == hsm.Ed25519 {
		return kind.curve[d.edwards]
	}
	return kind.curve[0]
}

// usageTemplate turns the usage attributes of the specification on or off.
func usageTemplate(spec hsm.KeySpec, usable bool) []*pkcs11.Attribute {
	kind, _ := kindOf(spec)
	template := make([]*pkcs11.Attribute, len(kind.usage))
	for i, usage := range kind.usage {
		template[i] = pkcs11.NewAttribute(usage, usable)
	}
	return template
}

// ulongsBytes is an array of CK_ULONG in memory.
func ulongsBytes(list []uint) (b []byte) {
	for _, v := range list {
		b = append(b, ulongBytes(v)...)
	}
	return b
}
