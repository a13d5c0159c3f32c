package pkcs11hsm

import (
	"encoding/asn1"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// Names of PKCS#11 v3.0 that miekg/pkcs11 does not have.
const (
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057
	ckkECEdwards           = 0x40
	ckmAESKeyWrapKWP       = 0x210b
)

// keyWraps are the mechanisms that modules have for AES key wrap with padding (RFC 5649): the
// one of PKCS#11 v3.0, and the one before it, whose meaning v2.40 left open and which is
// therefore tried before it is used.
var keyWraps = []uint{ckmAESKeyWrapKWP, pkcs11.CKM_AES_KEY_WRAP_PAD}

// keyKind is how keys of a specification are made and what they may do.
type keyKind struct {
	keyType    uint     // CKA_KEY_TYPE
	generate   uint     // mechanism of C_GenerateKey or C_GenerateKeyPair
	mechanisms []uint   // CKA_ALLOWED_MECHANISMS
	usage      []uint   // usage attributes that are on, of the secret or private key
	public     uint     // the usage attribute that is on of the public key
	curve      [][]byte // encodings of CKA_EC_PARAMS that modules use; the first is preferred
}

// Encodings of CKA_EC_PARAMS: the OID of a named curve, and for Ed25519 also the name as
// a PrintableString, as PKCS#11 v3.0 has it.
var (
	curveP256    = [][]byte{objectIdentifier(1, 2, 840, 10045, 3, 1, 7)}
	curveP384    = [][]byte{objectIdentifier(1, 3, 132, 0, 34)}
	curveP521    = [][]byte{objectIdentifier(1, 3, 132, 0, 35)}
	curveEdwards = [][]byte{objectIdentifier(1, 3, 101, 112), append([]byte{asn1.TagPrintableString, 12}, "edwards25519"...)}
)

// objectIdentifier is the DER encoding of an OID; asn1.Marshal does not fail for these.
func objectIdentifier(arcs ...int) []byte {
	der, _ := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	return der
}

// kindOf is the kind of a specification; ok is false for what is none.
func kindOf(spec hsm.KeySpec) (kind keyKind, ok bool) {
	switch spec.Usage() {
	case hsm.UsageBlocks:
		return keyKind{pkcs11.CKK_AES, pkcs11.CKM_AES_KEY_GEN, []uint{pkcs11.CKM_AES_ECB}, []uint{pkcs11.CKA_ENCRYPT}, 0, nil}, true
	case hsm.UsageGCM:
		return keyKind{pkcs11.CKK_AES, pkcs11.CKM_AES_KEY_GEN, []uint{pkcs11.CKM_AES_GCM},
			[]uint{pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT}, 0, nil}, true
	case hsm.UsageMAC:
		return keyKind{pkcs11.CKK_GENERIC_SECRET, pkcs11.CKM_GENERIC_SECRET_KEY_GEN, []uint{hmacMechanism(spec)},
			[]uint{pkcs11.CKA_SIGN}, 0, nil}, true
	case hsm.UsageSign:
		return signingKind(spec), true
	case hsm.UsageDecrypt:
		return keyKind{pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, []uint{pkcs11.CKM_RSA_PKCS_OAEP},
			[]uint{pkcs11.CKA_DECRYPT}, pkcs11.CKA_ENCRYPT, nil}, true
	case hsm.UsageImport:
		return keyKind{pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, []uint{pkcs11.CKM_RSA_PKCS_OAEP},
			[]uint{pkcs11.CKA_UNWRAP}, pkcs11.CKA_WRAP, nil}, true
	default:
		return keyKind{}, false
	}
}

func signingKind(spec hsm.KeySpec) keyKind {
	kind := keyKind{usage: []uint{pkcs11.CKA_SIGN}, public: pkcs11.CKA_VERIFY}
	switch {
	case spec.IsRSA():
		kind.keyType, kind.generate = pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN
		kind.mechanisms = []uint{pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_PKCS_PSS}
		return kind
	case spec == hsm.Ed25519:
		kind.keyType, kind.generate, kind.curve = ckkECEdwards, ckmECEdwardsKeyPairGen, curveEdwards
		kind.mechanisms = []uint{ckmEdDSA}
		return kind
	case spec == hsm.ECDSAP256:
		kind.curve = curveP256
	case spec == hsm.ECDSAP384:
		kind.curve = curveP384
	default:
		kind.curve = curveP521
	}
	kind.keyType, kind.generate = pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN
	kind.mechanisms = []uint{pkcs11.CKM_ECDSA}
	return kind
}

func hmacMechanism(spec hsm.KeySpec) uint {
	switch spec {
	case hsm.HMACSHA256:
		return pkcs11.CKM_SHA256_HMAC
	case hsm.HMACSHA384:
		return pkcs11.CKM_SHA384_HMAC
	default:
		return pkcs11.CKM_SHA512_HMAC
	}
}

// matches reports whether an object, which is a secret or private key, was made to the
// specification: that it is of that kind and size and may do nothing beyond it. Without a
// list of mechanisms the usage attributes must tell, which they cannot when they are off.
func (a attributeSet) matches(spec hsm.KeySpec) bool {
	kind, ok := kindOf(spec)
	class, given := a.ulong(pkcs11.CKA_CLASS)
	if !ok || given && (class == pkcs11.CKO_PRIVATE_KEY) != spec.IsPair() {
		return false
	}
	if keyType, ok := a.ulong(pkcs11.CKA_KEY_TYPE); !ok || keyType != kind.keyType || !a.fits(spec, kind) {
		return false
	}
	on := a.usage()
	list := ulongs(a[pkcs11.CKA_ALLOWED_MECHANISMS])
	if len(list) == 0 {
		return len(on) == len(kind.usage) && within(on, kind.usage)
	}
	return within(list, kind.mechanisms) && within(on, kind.usage)
}

// fits compares the size of a key.
func (a attributeSet) fits(spec hsm.KeySpec, kind keyKind) bool {
	switch {
	case spec.IsRSA():
		return len(trimZeros(a[pkcs11.CKA_MODULUS])) == spec.Size()
	case spec.IsPair():
		return slices.ContainsFunc(kind.curve, func(curve []byte) bool { return string(curve) == string(a[pkcs11.CKA_EC_PARAMS]) })
	default:
		// SoftHSM2 says 0 of a key that was unwrapped.
		length, known := a.ulong(pkcs11.CKA_VALUE_LEN)
		return !known || length == 0 || int(length) == spec.Size()
	}
}

// within reports whether every element of list is in allowed.
func within(list, allowed []uint) bool {
	return !slices.ContainsFunc(list, func(v uint) bool { return !slices.Contains(allowed, v) })
}

// trimZeros removes leading zeros from a big-endian integer.
func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	return b
}
