package pkcs11hsm_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// transient are the codes of losses that are repaired within a call.
var transient = map[string]string{
	"CKR_SESSION_HANDLE_INVALID": "0xb3",
	"CKR_OPERATION_ACTIVE":       "0x90",
	"CKR_USER_NOT_LOGGED_IN":     "0x101",
	"CKR_KEY_HANDLE_INVALID":     "0x60",
	"CKR_DEVICE_REMOVED":         "0x32",
}

// public is the public key of a pair.
func (r *rig) public(uid hsm.UID) crypto.PublicKey {
	r.Helper()
	der, err := r.token.PublicKey(r.Context(), uid)
	if err != nil {
		r.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		r.Fatal(err)
	}
	return public
}

func (r *rig) generate(uid hsm.UID, spec hsm.KeySpec) hsm.UID {
	r.Helper()
	if _, err := r.token.GenerateKey(r.Context(), uid, "rig", spec); err != nil {
		r.Fatal(err)
	}
	return uid
}

// encrypt is RSA-OAEP with SHA-1 under the public key of a pair.
func (r *rig) encrypt(uid hsm.UID, plaintext []byte) []byte {
	r.Helper()
	key, ok := r.public(uid).(*rsa.PublicKey)
	if !ok {
		r.Fatal("no RSA key")
	}
	ciphertext, err := rsa.EncryptOAEP(crypto.SHA1.New(), rand.Reader, key, plaintext, nil)
	if err != nil {
		r.Fatal(err)
	}
	return ciphertext
}

// TestSigningTransientCodes: each loss that a return code tells of is repaired within the
// call, one signature or many.
func TestSigningTransientCodes(t *testing.T) {
	r := newProxied(t)
	public := r.public(r.p256)
	for name, code := range transient {
		for _, function := range []string{fnSignInit, fnSign} {
			r.tell("fail " + function + " 1 " + code)
			digest := bytes.Repeat([]byte{7}, 32)
			signature, err := r.token.Sign(t.Context(), r.p256, hsm.ECDSA, digest)
			if err != nil || !hsmtest.Verify(public, hsm.ECDSA, digest, signature) {
				t.Errorf("%s of function %s: %v", name, function, err)
			}
			r.tell("fail " + function + " 1 " + code)
			items := make([]hsm.SignItem, 50)
			for i := range items {
				items[i].Input = bytes.Repeat([]byte{byte(i)}, 32)
			}
			if err := r.token.SignBatch(t.Context(), r.p256, hsm.ECDSA, items); err != nil {
				t.Errorf("%s of function %s in a batch: %v", name, function, err)
			}
			for i, item := range items {
				if item.Err != nil || !hsmtest.Verify(public, hsm.ECDSA, item.Input, item.Signature) {
					t.Errorf("%s of function %s in a batch, item %d: %v", name, function, i, item.Err)
				}
			}
			r.tell("fail " + function + " 1 " + code)
			if tag, err := r.token.MAC(t.Context(), r.mac, []byte("message")); err != nil || !bytes.Equal(tag, r.tag) {
				t.Errorf("%s of function %s in MAC: %v", name, function, err)
			}
		}
	}
}

// TestSigningLastingCodes: what does not go away is reported, and fails items by themselves
// where it concerns no more.
func TestSigningLastingCodes(t *testing.T) {
	r := newProxied(t)
	for code, want := range map[string]error{
		"0x5":  hsm.ErrUnavailable,     // CKR_GENERAL_ERROR
		"0x68": hsm.ErrKeyNotPermitted, // CKR_KEY_FUNCTION_NOT_PERMITTED
		"0x70": hsm.ErrKeyNotPermitted, // CKR_MECHANISM_INVALID
		"0x21": hsm.ErrUnsupported,     // CKR_DATA_LEN_RANGE
		"0x40": hsm.ErrUnavailable,     // CKR_ENCRYPTED_DATA_INVALID, which C_Sign has no reason for
		"0x54": hsm.ErrUnavailable,     // CKR_FUNCTION_NOT_SUPPORTED
	} {
		r.tell("fail " + fnSign + " 1 " + code)
		if signature, err := r.token.Sign(t.Context(), r.p256, hsm.ECDSA, make([]byte, 32)); !errors.Is(err, want) || signature != nil {
			t.Errorf("%s: %v, want %v", code, err, want)
		}
		if _, err := r.token.Sign(t.Context(), r.p256, hsm.ECDSA, make([]byte, 32)); err != nil {
			t.Errorf("%s: afterwards %v", code, err)
		}
	}
	r.tell("fail " + fnSign + " 1 0x5")
	items := []hsm.SignItem{{Input: make([]byte, 32)}, {Input: make([]byte, 32)}}
	if err := r.token.SignBatch(t.Context(), r.p256, hsm.ECDSA, items); err != nil {
		t.Fatal(err)
	}
	if (items[0].Err == nil) == (items[1].Err == nil) {
		t.Errorf("one of two items has failed: %v, %v", items[0].Err, items[1].Err)
	}
}

// TestDecryptionCodes: whatever C_Decrypt returns of a ciphertext, the error is the same;
// losses are repaired.
func TestDecryptionCodes(t *testing.T) {
	r := newProxied(t)
	uid := r.generate(hsm.UID{5}, hsm.RSA2048Decrypt)
	ciphertext := r.encrypt(uid, []byte("plaintext"))
	for _, code := range []string{"0x5", "0x6", "0x7", "0x20", "0x21", "0x30", "0x31", "0x40", "0x41", "0x42", "0x54", "0x62", "0x71", "0x80000001"} {
		r.tell("fail " + fnDecrypt + " 1 " + code)
		_, err := r.token.DecryptOAEP(t.Context(), uid, crypto.SHA1, ciphertext, nil)
		if !errors.Is(err, hsm.ErrAuthentication) || err.Error() != hsm.ErrAuthentication.Error() {
			t.Errorf("%s: %v", code, err)
		}
		// The session is asked after each code, and not only after those that say little: here
		// it is lost, so the ciphertext is tried again.
		r.tell("fail "+fnDecrypt+" 1 "+code, "fail "+fnGetSessionInfo+" 1 0xb3")
		if got, err := r.token.DecryptOAEP(t.Context(), uid, crypto.SHA1, ciphertext, nil); err != nil || string(got) != "plaintext" {
			t.Errorf("%s with a session that is lost: %q %v", code, got, err)
		}
		r.tell("reset")
	}
	for name, code := range transient {
		for _, function := range []string{fnDecryptInit, fnDecrypt} {
			r.tell("fail " + function + " 1 " + code)
			if got, err := r.token.DecryptOAEP(t.Context(), uid, crypto.SHA1, ciphertext, nil); err != nil || string(got) != "plaintext" {
				t.Errorf("%s of function %s: %q %v", name, function, got, err)
			}
		}
	}
}

// TestWeakenedPair: a private key that the module made weaker than the template says is
// refused, and neither half stays.
func TestWeakenedPair(t *testing.T) {
	r := newProxied(t)
	for name, attribute := range map[string]string{
		"not CKA_SENSITIVE": "0x103 0", "CKA_EXTRACTABLE": "0x162 1", "usage beyond": "0x105 1", "not CKA_PRIVATE": "0x2 0",
	} {
		for _, spec := range []hsm.KeySpec{hsm.ECDSAP256, hsm.Ed25519} { // through crypto11 and without
			uid := hsm.UID{77}
			r.tell("weaken " + attribute)
			_, err := r.token.GenerateKey(t.Context(), uid, "weak", spec)
			if !errors.Is(err, hsm.ErrUnsupported) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %s: %v", spec, name, err)
			}
			if n := r.objects(&uid); n != 0 {
				t.Errorf("%s, %s: %d objects are left", spec, name, n)
			}
			r.tell("reset")
		}
	}
}

// imports is what TestImport... have in common.
type imports struct {
	*rig
	by   hsm.UID
	pair *ecdsa.PrivateKey
	w    hsm.Wrapped // of pair
}

func newImports(t *testing.T) *imports {
	t.Helper()
	r := &imports{rig: newProxied(t)}
	r.by = r.generate(hsm.UID{6}, hsm.RSA3072Import)
	var err error
	if r.pair, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	value, err := x509.MarshalPKCS8PrivateKey(r.pair)
	if err != nil {
		t.Fatal(err)
	}
	kek := make([]byte, 32)
	rand.Read(kek)
	wrapped, err := hsm.WrapAES(kek, value)
	if err != nil {
		t.Fatal(err)
	}
	r.w = hsm.Wrapped{By: r.by, Hash: crypto.SHA1, Key: r.encrypt(r.by, kek), Value: wrapped}
	return r
}

// TestImportTransientCodes: losses in the middle of an import are repaired, and no session
// object of a wrapping key stays.
func TestImportTransientCodes(t *testing.T) {
	r := newImports(t)
	before := r.objects(nil)
	for name, code := range transient {
		for _, function := range []string{fnUnwrapKey, fnCreateObject, fnSign, fnDestroyObject} {
			if function == fnDestroyObject && name == "CKR_SESSION_HANDLE_INVALID" {
				continue // of a session that is gone, so its objects are too: the proxy cannot play that
			}
			uid := hsm.UID{80}
			r.tell("fail " + function + " 1 " + code)
			if _, err := r.token.UnwrapKey(t.Context(), uid, "imported", hsm.ECDSAP256, r.w); err != nil {
				t.Errorf("%s of function %s: %v", name, function, err)
				r.tell("reset")
				continue
			}
			if public, ok := r.public(uid).(*ecdsa.PublicKey); !ok || !public.Equal(&r.pair.PublicKey) {
				t.Errorf("%s of function %s: another public key", name, function)
			}
			if n := r.objects(&uid); n != 2 {
				t.Errorf("%s of function %s: %d objects", name, function, n)
			}
			if err := r.token.DestroyKey(t.Context(), uid); err != nil {
				t.Error(err)
			}
			if after := r.objects(nil); after != before {
				t.Errorf("%s of function %s: %d objects, before there were %d", name, function, after, before)
			}
		}
	}
}

// TestImportFails: an import that fails at any step leaves nothing, neither a token object
// nor a session object.
func TestImportFails(t *testing.T) {
	r := newImports(t)
	before := r.objects(nil)
	for name, test := range map[string]struct {
		tell string
		want error
	}{
		"the unwrapping":           {"fail " + fnUnwrapKey + " 1 0x5", hsm.ErrAuthentication},
		"the unwrapping, by code":  {"fail " + fnUnwrapKey + " 1 0x110", hsm.ErrAuthentication}, // CKR_WRAPPED_KEY_INVALID
		"the public key":           {"fail " + fnCreateObject + " 1 0x13", hsm.ErrUnsupported},
		"the proof":                {"fail " + fnSign + " 1 0x5", hsm.ErrArgument},
		"the proof, by a loss":     {"fail " + fnSign + " 9 0xb3", hsm.ErrUnavailable},
		"an extractable key":       {"weaken 0x162 1", hsm.ErrUnsupported},
		"a key that does more":     {"weaken 0x105 1", hsm.ErrUnsupported},
		"a key that is visible":    {"weaken 0x2 0", hsm.ErrUnsupported},
		"a key that is turned off": {"weaken 0x108 0", hsm.ErrKeyNotPermitted},
	} {
		uid := hsm.UID{81}
		r.tell(test.tell)
		if _, err := r.token.UnwrapKey(t.Context(), uid, "", hsm.ECDSAP256, r.w); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		r.tell("reset")
		if after := r.objects(nil); after != before {
			t.Errorf("%s: %d objects, before there were %d", name, after, before)
		}
		if _, err := r.token.Key(t.Context(), uid); !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.token.UnwrapKey(t.Context(), hsm.UID{82}, "", hsm.ECDSAP256, r.w); err != nil {
		t.Error(err)
	}
}

// destroyRaw destroys the objects of a class, without asking the code under test.
func (r *rig) destroyRaw(uid hsm.UID, class uint) {
	r.Helper()
	withRaw(r.T, r.token, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) error {
		template := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]), pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
		if err := ctx.FindObjectsInit(s, template); err != nil {
			return err
		}
		found, _, err := ctx.FindObjects(s, 10)
		err = errors.Join(err, ctx.FindObjectsFinal(s))
		for _, h := range found {
			err = errors.Join(err, ctx.DestroyObject(s, h))
		}
		return err
	})
}

// TestHalfPair: what is left of a pair is listed without a specification, refuses use, and
// can be destroyed; a private key without its public key still signs.
func TestHalfPair(t *testing.T) {
	r := newProxied(t)
	for name, half := range map[string]struct {
		class uint
		spec  hsm.KeySpec
	}{"private key gone": {3, 0}, "public key gone": {2, hsm.ECDSAP256}} {
		uid := r.generate(hsm.UID{90}, hsm.ECDSAP256)
		r.destroyRaw(uid, half.class)
		object, err := r.token.Key(t.Context(), uid)
		if err != nil || object.Spec != half.spec {
			t.Errorf("%s: %+v %v", name, object, err)
		}
		_, err = r.token.Sign(t.Context(), uid, hsm.ECDSA, make([]byte, 32))
		if half.spec == 0 && !errors.Is(err, hsm.ErrKeyNotPermitted) || half.spec != 0 && err != nil {
			t.Errorf("%s: Sign: %v", name, err)
		}
		_, err = r.token.PublicKey(t.Context(), uid)
		if want := map[bool]error{true: hsm.ErrKeyNotPermitted, false: hsm.ErrKeyNotFound}[half.spec == 0]; !errors.Is(err, want) {
			t.Errorf("%s: PublicKey: %v", name, err)
		}
		if _, err := r.token.GenerateKey(t.Context(), uid, "", hsm.ECDSAP256); !errors.Is(err, hsm.ErrKeyExists) {
			t.Errorf("%s: GenerateKey: %v", name, err)
		}
		if err := r.token.DestroyKey(t.Context(), uid); err != nil {
			t.Errorf("%s: DestroyKey: %v", name, err)
		}
		if n := r.objects(&uid); n != 0 {
			t.Errorf("%s: %d objects are left", name, n)
		}
	}
}

// TestProbeHides: what the mechanism list lacks is not offered.
func TestProbeHides(t *testing.T) {
	proxy := buildProxy(t)
	for mechanism, missing := range map[string]hsm.KeySpec{
		"0x1041": hsm.ECDSAP256, "0x1057": hsm.Ed25519, "0x1": hsm.RSA2048Sign, "0x9": hsm.RSA2048Decrypt,
		"0x251": hsm.HMACSHA256, "0x210a": hsm.RSA3072Import,
	} {
		t.Setenv("KEYHOLT_PROXY", "hide "+mechanism)
		token := softhsmtest.NewVia(t, proxy).Open(t)
		info := token.Info()
		if info.Supports(missing) {
			t.Errorf("without %s: %s is offered", mechanism, missing)
		}
		if !strings.Contains(fmt.Sprint(info.Limitations), missing.String()) {
			t.Errorf("without %s: %v does not name %s", mechanism, info.Limitations, missing)
		}
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
