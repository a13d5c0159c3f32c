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
