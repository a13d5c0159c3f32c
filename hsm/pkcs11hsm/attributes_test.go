package pkcs11hsm

import (
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

const (
	beyondBlocks = "usage beyond AES256_BLOCKS"
	beyondGCM    = "usage beyond AES256_GCM"
)

// strong is what a token says of a key that is as it was asked for.
func strong(spec hsm.KeySpec) attributeSet {
	set := attributeSet{
		pkcs11.CKA_ALWAYS_SENSITIVE:  {1},
		pkcs11.CKA_NEVER_EXTRACTABLE: {1},
		pkcs11.CKA_LOCAL:             {1},
	}
	d := dialect{allowedMechanisms: true, copyable: true}
	for _, a := range d.generateTemplate(spec, hsm.UID{1}, "", true) {
		set[a.Type] = a.Value
	}
	return set
}

// TestWeaknesses takes one attribute at a time from what was asked for.
func TestWeaknesses(t *testing.T) {
	no, yes := []byte{0}, []byte{1}
	for _, test := range []struct {
		name      string
		attribute uint
		value     []byte // nil: the token does not give the attribute
		want      string // for AES256Blocks
		gcm       string // for AES256GCM
	}{
		{"as asked for", pkcs11.CKA_LOCAL, yes, "", ""},
		{"made elsewhere, as NSS says", pkcs11.CKA_LOCAL, no, "", ""},
		{"not sensitive", pkcs11.CKA_SENSITIVE, no, "not CKA_SENSITIVE", "not CKA_SENSITIVE"},
		{"sensitive absent", pkcs11.CKA_SENSITIVE, nil, "not CKA_SENSITIVE", "not CKA_SENSITIVE"},
		{"sensitive empty", pkcs11.CKA_SENSITIVE, []byte{}, "not CKA_SENSITIVE", "not CKA_SENSITIVE"},
		{"extractable", pkcs11.CKA_EXTRACTABLE, yes, "CKA_EXTRACTABLE", "CKA_EXTRACTABLE"},
		{"once not sensitive", pkcs11.CKA_ALWAYS_SENSITIVE, no, "not CKA_ALWAYS_SENSITIVE", "not CKA_ALWAYS_SENSITIVE"},
		{"always sensitive absent", pkcs11.CKA_ALWAYS_SENSITIVE, nil, "not CKA_ALWAYS_SENSITIVE", "not CKA_ALWAYS_SENSITIVE"},
		{"once extractable", pkcs11.CKA_NEVER_EXTRACTABLE, no, "not CKA_NEVER_EXTRACTABLE", "not CKA_NEVER_EXTRACTABLE"},
		{"never extractable absent", pkcs11.CKA_NEVER_EXTRACTABLE, nil, "not CKA_NEVER_EXTRACTABLE", "not CKA_NEVER_EXTRACTABLE"},
		{"shorter", pkcs11.CKA_VALUE_LEN, ulongBytes(16), beyondBlocks, beyondGCM},
		{"another type", pkcs11.CKA_KEY_TYPE, ulongBytes(pkcs11.CKK_DES3), beyondBlocks, beyondGCM},
		{"signs", pkcs11.CKA_SIGN, yes, beyondBlocks, beyondGCM},
		{"verifies", pkcs11.CKA_VERIFY, yes, beyondBlocks, beyondGCM},
		{"wraps", pkcs11.CKA_WRAP, yes, beyondBlocks, beyondGCM},
		{"unwraps", pkcs11.CKA_UNWRAP, yes, beyondBlocks, beyondGCM},
		{"derives", pkcs11.CKA_DERIVE, yes, beyondBlocks, beyondGCM},
		{"decrypts", pkcs11.CKA_DECRYPT, yes, beyondBlocks, ""},
	} {
		for spec, want := range map[hsm.KeySpec]string{hsm.AES256Blocks: test.want, hsm.AES256GCM: test.gcm} {
			set := strong(spec)
			if test.value == nil {
				delete(set, test.attribute)
			} else {
				set[test.attribute] = test.value
			}
			if got := set.weaknesses(dialect{allowedMechanisms: true}, spec); got != want {
				t.Errorf("%s, %s: got %q, want %q", spec, test.name, got, want)
			}
		}
	}
}

// TestWeaknessesOfMechanisms: the list of mechanisms counts where the module keeps one,
// and there it must be exactly the one asked for.
func TestWeaknessesOfMechanisms(t *testing.T) {
	const notKept = "CKA_ALLOWED_MECHANISMS not kept"
	ecb, gcm := ulongBytes(pkcs11.CKM_AES_ECB), ulongBytes(pkcs11.CKM_AES_GCM)
	for name, test := range map[string]struct {
		list         []byte
		with, ignore string // with and without such a list in the dialect
	}{
		"as asked for": {ecb, "", ""},
		"none":         {nil, notKept, ""},
		"another":      {gcm, beyondBlocks + ", " + notKept, beyondBlocks},
		"one more": {
			slices.Concat(ecb, gcm),
			beyondBlocks + ", " + notKept, beyondBlocks,
		},
	} {
		set := strong(hsm.AES256Blocks)
		set[pkcs11.CKA_ALLOWED_MECHANISMS] = test.list
		if got := set.weaknesses(dialect{allowedMechanisms: true}, hsm.AES256Blocks); got != test.with {
			t.Errorf("%s: got %q, want %q", name, got, test.with)
		}
		if got := set.weaknesses(dialect{}, hsm.AES256Blocks); got != test.ignore {
			t.Errorf("%s, module without such lists: got %q, want %q", name, got, test.ignore)
		}
	}
}

// TestWeaknessesTogether: all of them are named.
func TestWeaknessesTogether(t *testing.T) {
	const want = "not CKA_PRIVATE, not CKA_SENSITIVE, usage beyond AES256_GCM, not CKA_ALWAYS_SENSITIVE, not CKA_NEVER_EXTRACTABLE"
	if got := (attributeSet{}).weaknesses(dialect{}, hsm.AES256GCM); got != want {
		t.Errorf("got %q", got)
	}
}

// made is what a token says of a secret or private key of the specification, and of the
// public key of a pair.
func made(spec hsm.KeySpec, d dialect) (main, public attributeSet) {
	main, public = attributeSet{}, attributeSet{}
	template := d.secretTemplate(spec, hsm.UID{1}, "", true)
	if spec.IsPair() {
		template = d.privateTemplate(spec, hsm.UID{1}, "", true)
		for _, a := range d.publicGenerateTemplate(spec, hsm.UID{1}, "", true) {
			public[a.Type] = a.Value
		}
	}
	for _, a := range template {
		main[a.Type] = a.Value
	}
	switch {
	case !spec.IsPair():
		main[pkcs11.CKA_VALUE_LEN] = ulongBytes(uint(spec.Size()))
	case spec.IsRSA():
		main[pkcs11.CKA_MODULUS] = append([]byte{0}, slices.Repeat([]byte{0xc1}, spec.Size())...)
		main[pkcs11.CKA_PUBLIC_EXPONENT] = []byte{0, 1, 0, 1}
	default:
		main[pkcs11.CKA_EC_PARAMS] = d.curve(spec)
	}
	main[pkcs11.CKA_ALWAYS_SENSITIVE], main[pkcs11.CKA_NEVER_EXTRACTABLE] = []byte{1}, []byte{1}
	return main, public
}

// TestSpecIsRecognised: an object is of the specification that it was made to and of no
// other, also when its usage is off, and of none when it may do more.
func TestSpecIsRecognised(t *testing.T) {
	for _, d := range []dialect{{allowedMechanisms: true, copyable: true}, {}} {
		for _, spec := range hsm.KeySpecs() {
			main, public := made(spec, d)
			if got := main.spec(public); got != spec || main.weaknesses(d, spec) != "" {
				t.Errorf("%s is recognised as %s, weak: %q", spec, got, main.weaknesses(d, spec))
			}
			if object := main.object(hsm.UID{1}, spec); !object.Usable || !object.Sensitive {
				t.Errorf("%s: %+v", spec, object)
			}
			for _, usage := range slices.Concat(privateUsage, secretUsage) {
				if kind, _ := kindOf(spec); slices.Contains(kind.usage, usage) {
					continue
				}
				main[usage] = []byte{1}
				if got := main.spec(public); got == spec || main.matches(spec) {
					t.Errorf("%s with the further attribute %#x is recognised", spec, usage)
				}
				main[usage] = []byte{0}
			}
			for _, a := range usageTemplate(spec, false) {
				main[a.Type] = a.Value
			}
			want := spec
			if !d.allowedMechanisms {
				want = 0 // nothing tells
			}
			if got := main.spec(public); got != want || main.object(hsm.UID{1}, spec).Usable {
				t.Errorf("%s that is off is recognised as %s", spec, got)
			}
		}
	}
}

// TestRSAWeaknesses: another exponent, another size.
func TestRSAWeaknesses(t *testing.T) {
	d := dialect{allowedMechanisms: true}
	main, _ := made(hsm.RSA2048Sign, d)
	main[pkcs11.CKA_PUBLIC_EXPONENT] = []byte{3}
	if got := main.weaknesses(d, hsm.RSA2048Sign); got != "another CKA_PUBLIC_EXPONENT" {
		t.Errorf("exponent 3: %q", got)
	}
	main[pkcs11.CKA_PUBLIC_EXPONENT] = publicExponent
	main[pkcs11.CKA_MODULUS] = main[pkcs11.CKA_MODULUS][:129]
	if got := main.weaknesses(d, hsm.RSA2048Sign); got != "usage beyond RSA2048_SIGN" {
		t.Errorf("1024 bits: %q", got)
	}
}

// TestImportWeaknesses: what was imported is not local, and never was sensitive always.
func TestImportWeaknesses(t *testing.T) {
	d := dialect{allowedMechanisms: true}
	main, _ := made(hsm.ECDSAP256, d)
	main[pkcs11.CKA_ALWAYS_SENSITIVE], main[pkcs11.CKA_NEVER_EXTRACTABLE], main[pkcs11.CKA_LOCAL] = []byte{0}, []byte{0}, []byte{0}
	if got := main.importWeaknesses(d, hsm.ECDSAP256); got != "" {
		t.Errorf("as asked for: %q", got)
	}
	main[pkcs11.CKA_LOCAL], main[pkcs11.CKA_EXTRACTABLE] = []byte{1}, []byte{1}
	if got := main.importWeaknesses(d, hsm.ECDSAP256); got != "CKA_EXTRACTABLE, CKA_LOCAL" {
		t.Errorf("local and extractable: %q", got)
	}
}
