package pkcs11hsm_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

func encrypt(t *testing.T, token hsm.Token, uid hsm.UID) error {
	t.Helper()
	return token.EncryptBlocks(t.Context(), uid, make([]byte, 32), make([]byte, 32))
}

// TestAnotherProcess: what another process does to a key is seen at its next use.
func TestAnotherProcess(t *testing.T) {
	r := newRig(t, nil)
	uid := hsm.UID{0xaa}
	elsewhere(t, r.soft, "generate", uid)
	if err := encrypt(t, r.token, uid); err != nil {
		t.Fatalf("a key that another process made: %v", err)
	}
	elsewhere(t, r.soft, "off", uid)
	if err := encrypt(t, r.token, uid); !errors.Is(err, hsm.ErrKeyNotPermitted) {
		t.Fatalf("turned off elsewhere: %v", err)
	}
	elsewhere(t, r.soft, "on", uid)
	if err := encrypt(t, r.token, uid); err != nil {
		t.Fatalf("turned on elsewhere: %v", err)
	}
	elsewhere(t, r.soft, "destroy", uid)
	if err := encrypt(t, r.token, uid); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatalf("destroyed elsewhere: %v", err)
	}
	if err := encrypt(t, r.token, r.blocks); err != nil {
		t.Fatalf("the other key: %v", err)
	}
}

// TestPKCS11Tool: OpenSC's tool sees the protection of our keys, and what it
// destroys is gone.
func TestPKCS11Tool(t *testing.T) {
	tool := softhsmtest.RequireFile(t, "pkcs11-tool (package opensc)", "/usr/bin/pkcs11-tool", "/opt/homebrew/bin/pkcs11-tool")
	r := newRig(t, nil)
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(tool, append([]string{"--module", r.soft.ModulePath(), "--token-label", r.soft.Label(),
			"--login", "--pin", "env:KEYHOLT_TEST_PIN"}, args...)...)
		cmd.Env = append(r.soft.Env(), "KEYHOLT_TEST_PIN="+r.soft.PIN())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	listing := run("--list-objects", "--type", "secrkey")
	for _, want := range []string{r.blocks.String(), "sensitive", "always sensitive", "never extractable", "local", "encrypt, decrypt"} {
		if !strings.Contains(listing, want) {
			t.Errorf("%q is not in\n%s", want, listing)
		}
	}
	run("--delete-object", "--type", "secrkey", "--id", r.blocks.String())
	if err := encrypt(t, r.token, r.blocks); !errors.Is(err, hsm.ErrKeyNotFound) {
		t.Fatalf("destroyed by the tool: %v", err)
	}
}

// withRaw runs f with a session of its own beside the token's.
func withRaw(t *testing.T, token *pkcs11hsm.Token, f func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) error) {
	t.Helper()
	ctx := token.Raw()
	s, err := ctx.OpenSession(token.Slot(), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ctx.CloseSession(s) }()
	if err := f(ctx, s); err != nil {
		t.Fatal(err)
	}
}

func findRaw(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, uid hsm.UID) (pkcs11.ObjectHandle, error) {
	if err := ctx.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:])}); err != nil {
		return 0, err
	}
	found, _, err := ctx.FindObjects(s, 2)
	if err == nil && len(found) != 1 {
		err = errors.New("not one object")
	}
	if err = errors.Join(err, ctx.FindObjectsFinal(s)); err != nil {
		return 0, err
	}
	return found[0], nil
}

// TestForeignObjects: keys that were not made to a specification are reported but
// not used, and what a holder of the PIN changes is seen.
func TestForeignObjects(t *testing.T) {
	r := newRig(t, nil)
	foreign, short := hsm.UID{0xf0}, []byte("short id")
	generate := func(id []byte, attributes ...*pkcs11.Attribute) {
		withRaw(t, r.token, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) error {
			_, err := ctx.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
				append(attributes, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
					pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32)))
			return err
		})
	}
	generate(foreign[:], pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_WRAP, true))
	generate(short)
	keys, err := r.token.Keys(t.Context())
	if err != nil || len(keys) != 5 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	object, err := r.token.Key(t.Context(), foreign)
	if err != nil || object.Spec != 0 {
		t.Fatalf("%+v, %v", object, err)
	}
	if err := encrypt(t, r.token, foreign); !errors.Is(err, hsm.ErrKeyNotPermitted) {
		t.Fatalf("use of a foreign key: %v", err)
	}
	if err := r.token.SetUsable(t.Context(), foreign, false); !errors.Is(err, hsm.ErrUnsupported) {
		t.Fatalf("switch of a foreign key: %v", err)
	}

	set := func(uid hsm.UID, attribute uint, value any) {
		withRaw(t, r.token, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle) error {
			h, err := findRaw(ctx, s, uid)
			if err != nil {
				return err
			}
			return ctx.SetAttributeValue(s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, value)})
		})
	}
	// More usage than its specification has: no longer one of ours.
	set(r.blocks, pkcs11.CKA_WRAP, true)
	if object, err := r.token.Key(t.Context(), r.blocks); err != nil || object.Spec != 0 {
		t.Fatalf("%+v, %v", object, err)
	}
	if err := encrypt(t, r.token, r.blocks); !errors.Is(err, hsm.ErrKeyNotPermitted) {
		t.Fatalf("use of a key with more usage: %v", err)
	}
	set(r.blocks, pkcs11.CKA_WRAP, false)
	if _, err := r.token.Key(t.Context(), r.blocks); err != nil {
		t.Fatal(err)
	}
	if err := encrypt(t, r.token, r.blocks); err != nil {
		t.Fatal(err)
	}
	// Two objects with one UID: which is meant cannot be known.
	set(r.gcm, pkcs11.CKA_ID, r.blocks[:])
	if _, err := r.token.Keys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.token.Key(t.Context(), r.blocks); !errors.Is(err, hsm.ErrKeyNotPermitted) {
		t.Fatalf("two objects with one UID: %v", err)
	}
	if err := encrypt(t, r.token, r.blocks); !errors.Is(err, hsm.ErrKeyNotPermitted) {
		t.Fatalf("use of one of two: %v", err)
	}
	if err := r.token.DestroyKey(t.Context(), r.blocks); err != nil {
		t.Fatal(err)
	}
	if keys, err := r.token.Keys(t.Context()); err != nil || len(keys) != 3 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
}
