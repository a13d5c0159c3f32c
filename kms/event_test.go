package kms_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// The record of a batch tells who, what and, item by item, under which version and with
// what outcome; like neighbours are counted together.
func TestEventOfABatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	one, two := w.create("one", kms.ProfileDerived), w.create("two", kms.ProfileStrict)
	context := map[string]string{"tenant": "7"}
	binding := kms.Binding{Context: context, AAD: []byte("never logged")}
	var items []kms.DataKeyItem
	for _, key := range []kms.KeyName{one, two} {
		r, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: key, Count: 3, Binding: binding})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range r {
			items = append(items, kms.DataKeyItem{Wrapped: k.Wrapped})
		}
	}
	items[2].Wrapped = items[2].Wrapped[:50]
	own := kms.Binding{Context: map[string]string{"tenant": "8"}}
	items[5].Binding = &own
	results, err := w.service.UnwrapDataKeys(t.Context(), admin,
		&kms.UnwrapDataKeysRequest{Parent: one.Namespace(), Items: items, Binding: binding})
	if err != nil {
		t.Fatal(err)
	}
	e := w.auditor.last()
	if e.Action != kms.ActionUnwrapDataKey || e.Principal != admin || e.Namespace != one.Namespace() || e.Err != nil ||
		e.Context["tenant"] != "7" || e.Time.IsZero() {
		t.Fatalf("the event: %+v", e)
	}
	var got []string
	for _, i := range e.Items {
		outcome := "ok"
		if i.Err != nil {
			outcome = i.Err.Error()[:14]
		}
		got = append(got, fmt.Sprintf("%d %s %s %v", i.Count, i.Version.Key().ID(), outcome, i.Context))
	}
	want := []string{
		"2 one ok map[]", "1  malformed ciph map[]", "2 two ok map[]", "1 two the ciphertext map[tenant:8]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Fatalf("items:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	text := fmt.Sprintf("%+v", e)
	for _, r := range results {
		if len(r.DataKey) > 0 && strings.Contains(text, string(r.DataKey)) {
			t.Fatal("the event holds a data key")
		}
	}
	if strings.Contains(text, "never logged") || strings.Contains(text, "110 101 118 101 114") {
		t.Fatal("the event holds additional authenticated data")
	}
}

// Refusals are recorded like everything else.
func TestRefusalsAreRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	if _, err := w.service.GetKey(t.Context(), stranger, name); err == nil {
		t.Fatal("a stranger reads a key")
	}
	if e := w.auditor.last(); e.Principal != stranger || e.Resource != name.String() || !errors.Is(e.Err, kms.ErrNotAccessible) {
		t.Fatalf("the event of a refused GetKey: %+v", e)
	}
	if _, err := w.service.Encrypt(t.Context(), stranger, &kms.EncryptRequest{Key: name}); err == nil {
		t.Fatal("a stranger encrypts")
	}
	if e := w.auditor.last(); e.Action != kms.ActionEncrypt || len(e.Items) != 1 || !errors.Is(e.Items[0].Err, kms.ErrNotAccessible) {
		t.Fatalf("the event of a refused Encrypt: %+v", e)
	}
	_, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: name.Version(1), Reason: "case 12"})
	if err != nil {
		t.Fatal(err)
	}
	if e := w.auditor.last(); e.Resource != name.Version(1).String() || e.Reason != "case 12" || e.Err != nil {
		t.Fatalf("the event of a revocation: %+v", e)
	}
	if _, err := w.service.UnwrapDataKeys(t.Context(), admin, &kms.UnwrapDataKeysRequest{Parent: name.Namespace()}); err == nil {
		t.Fatal("an empty batch is served")
	}
	if e := w.auditor.last(); e.Action != kms.ActionUnwrapDataKey || !errors.Is(e.Err, kms.ErrInvalidRequest) {
		t.Fatalf("the event of an invalid request: %+v", e)
	}
}

// Of a request that fails as a whole nothing is released: its record has no item that was
// served, and no verdict on what was not verified.
func TestEventOfAFailedRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	data := w.create("data", kms.ProfileDerived)
	tags := keyName(t, "tags")
	if _, err := w.service.CreateKey(t.Context(), admin,
		&kms.CreateKeyRequest{Name: tags, Algorithm: kms.AlgorithmHMACSHA256}); err != nil {
		t.Fatal(err)
	}
	made, err := w.service.GenerateMac(t.Context(), admin, &kms.GenerateMacRequest{Key: tags, Message: []byte("m")})
	if err != nil {
		t.Fatal(err)
	}
	w.faults.FailBefore(hsmtest.MethodMAC, hsm.ErrUnavailable)
	w.faults.FailBefore(hsmtest.MethodMACBatch, hsm.ErrUnavailable)
	w.faults.FailBefore(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable)
	for action, test := range map[kms.Action]struct {
		want error
		call func() error
	}{
		kms.ActionGenerateDataKey: {kms.ErrTokenUnavailable, func() error {
			_, err := w.service.GenerateDataKeys(t.Context(), admin, &kms.GenerateDataKeysRequest{Key: data, Count: 3})
			return err
		}},
		kms.ActionVerifyMac: {kms.ErrTokenUnavailable, func() error {
			_, err := w.service.VerifyMac(t.Context(), admin,
				&kms.VerifyMacRequest{Version: tags.Version(1), Message: []byte("m"), Mac: made.Mac})
			return err
		}},
		kms.ActionGenerateMac: {kms.ErrInvalidRequest, func() error {
			_, err := w.service.GenerateMac(t.Context(), admin, &kms.GenerateMacRequest{Key: tags})
			return err
		}},
	} {
		if err := test.call(); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", action, err, test.want)
		}
		e := w.auditor.last()
		if e.Action != action || !errors.Is(e.Err, test.want) || len(e.Items) != 1 {
			t.Fatalf("the event of %s: %+v", action, e)
		}
		if i := e.Items[0]; !errors.Is(i.Err, test.want) || i.Verdict != 0 {
			t.Errorf("the item of %s: error %v, verdict %d; want %v and no verdict", action, i.Err, i.Verdict, test.want)
		}
	}
}

// However a secret is printed, its bytes do not show.
func TestSecretsDoNotShow(t *testing.T) {
	t.Parallel()
	secret := kms.Secret("hunter2")
	encoded, err := json.Marshal(struct{ S kms.Secret }{secret})
	if err != nil {
		t.Fatal(err)
	}
	shown := fmt.Sprintf("%v %+v %#v %s %q %x %X %d", secret, secret, secret, secret, secret, secret, secret, secret) +
		string(encoded) + secret.LogValue().String() + fmt.Sprint(kms.DataKeyResult{DataKey: secret})
	for _, leak := range []string{"hunter2", "68756e74657232", "68756E74657232", "104 117", "aHVudGVyMg"} {
		if strings.Contains(shown, leak) {
			t.Fatalf("%q shows in %q", leak, shown)
		}
	}
	secret.Wipe()
	if string(secret) != "\x00\x00\x00\x00\x00\x00\x00" {
		t.Fatal("Wipe leaves bytes")
	}
}
