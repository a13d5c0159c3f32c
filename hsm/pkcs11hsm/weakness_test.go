package pkcs11hsm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// objects counts what is on the token, with the UID or at all, without asking the code
// under test.
func (r *rig) objects(uid *hsm.UID) int {
	r.Helper()
	var template []*pkcs11.Attribute
	if uid != nil {
		template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]))
	}
	count := 0
	withRaw(r.T, r.token, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		if err := ctx.FindObjectsInit(s, template); err != nil {
			return err
		}
		found, _, err := ctx.FindObjects(s, 100)
		count = len(found)
		return errors.Join(err, ctx.FindObjectsFinal(s))
	})
	return count
}

// TestWeakenedKey: a key that the module made weaker than the template says is refused
// by the name of its weakness, and does not stay on the token.
func TestWeakenedKey(t *testing.T) {
	r := newProxied(t)
	uid := hsm.UID{77}
	for _, test := range []struct {
		name, attribute, value string
		want                   []string
	}{
		{"not sensitive", "0x103", "0", []string{"not CKA_SENSITIVE", "not CKA_ALWAYS_SENSITIVE"}},
		{"extractable", "0x162", "1", []string{"CKA_EXTRACTABLE", "not CKA_NEVER_EXTRACTABLE"}},
		{"wraps", "0x106", "1", []string{"usage beyond"}},
		{"decrypts", "0x105", "1", []string{"usage beyond"}},
	} {
		before := r.objects(nil)
		r.tell("weaken " + test.attribute + " " + test.value)
		_, err := r.token.GenerateKey(t.Context(), uid, "weak", hsm.AES256Blocks)
		if !errors.Is(err, hsm.ErrUnsupported) {
			t.Errorf("%s: got %v, want ErrUnsupported", test.name, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v does not name %q", test.name, err, want)
			}
		}
		if n := r.objects(&uid); n != 0 {
			t.Errorf("%s: %d objects with the UID are left", test.name, n)
		}
		if after := r.objects(nil); after != before {
			t.Errorf("%s: %d objects, before there were %d", test.name, after, before)
		}
		if _, err := r.token.Key(t.Context(), uid); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("%s: Key: %v", test.name, err)
		}
		if err := encrypt(t, r.token, uid); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("%s: EncryptBlocks: %v", test.name, err)
		}
		r.tell("reset")
	}
	if _, err := r.token.GenerateKey(t.Context(), uid, "strong", hsm.AES256Blocks); err != nil {
		t.Errorf("the same key from a module that obeys: %v", err)
	}
}

// TestWeakenedKeyStays: where the key cannot be destroyed the error says so, and the key
// is still refused.
func TestWeakenedKeyStays(t *testing.T) {
	r := newProxied(t)
	uid := hsm.UID{78}
	r.tell("weaken 0x103 0", "fail "+fnDestroyObject+" 1 0x1b") // CKR_ACTION_PROHIBITED
	_, err := r.token.GenerateKey(t.Context(), uid, "weak", hsm.AES256Blocks)
	if !errors.Is(err, hsm.ErrUnsupported) || !strings.Contains(err.Error(), "not CKA_SENSITIVE") ||
		!strings.Contains(err.Error(), "destroying it failed") {
		t.Errorf("GenerateKey: %v", err)
	}
}
