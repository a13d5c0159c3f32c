package kms_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// objects counts the key objects in the token, without the seal key.
func (w *world) objects() int {
	w.t.Helper()
	objects, err := w.memory.Open().Keys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(objects) - 1
}

// breaks are the ways in which the making of a key version can fail half-way.
var breaks = map[string]func(w *world){
	"object not made":                func(w *world) { w.faults.FailBefore(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1) },
	"object made, answer lost":       func(w *world) { w.faults.FailAfter(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1) },
	"check value fails":              func(w *world) { w.faults.FailBefore(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable, 1) },
	"intent not stored":              func(w *world) { w.store.failCommit(1, false) },
	"intent stored, answer lost":     func(w *world) { w.store.failCommit(1, true) },
	"activation not stored":          func(w *world) { w.store.failCommit(2, false) },
	"activation stored, answer lost": func(w *world) { w.store.failCommit(2, true) },
	"object cannot be removed": func(w *world) {
		w.faults.FailAfter(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1)
		w.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable)
	},
	"row cannot be removed": func(w *world) {
		w.faults.FailBefore(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1)
		w.store.failCommit(2, false)
	},
}

// Whatever fails while a key is created, repeating the call gives one key with one
// version and one object, at once and after a restart.
func TestCreateKeySurvivesFaults(t *testing.T) {
	t.Parallel()
	for name, breakIt := range breaks {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, hsmtest.MemoryConfig{}, nil)
				request := &kms.CreateKeyRequest{Name: keyName(t, "orders"), RequestID: uuid.NewString()}
				breakIt(w)
				if _, err := w.service.CreateKey(t.Context(), admin, request); err == nil {
					t.Fatal("the fault was not noticed")
				}
				if restart {
					w.restart()
				} else {
					w.faults.Clear()
				}
				key, err := w.service.CreateKey(t.Context(), admin, request)
				if err != nil {
					t.Fatalf("CreateKey repeated: %v", err)
				}
				if key.VersionCount != 1 || key.Primary != 1 || key.PrimaryState != kms.StateEnabled {
					t.Fatalf("the key: %+v", key)
				}
				if n := w.objects(); n != 1 {
					t.Fatalf("the token holds %d objects", n)
				}
				ciphertext := w.mustEncrypt(request.Name, "x")
				w.restart()
				if got, err := w.decrypt(request.Name, ciphertext); err != nil || got != "x" {
					t.Fatalf("after a restart: %q, %v", got, err)
				}
			})
		}
	}
}

// The same for a rotation.
func TestRotateKeySurvivesFaults(t *testing.T) {
	t.Parallel()
	for name, breakIt := range breaks {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, hsmtest.MemoryConfig{}, nil)
				key := w.create("orders", kms.ProfileDerived)
				old := w.mustEncrypt(key, "old")
				id := uuid.NewString()
				breakIt(w)
				if _, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: key, RequestID: id}); err == nil {
					t.Fatal("the fault was not noticed")
				}
				if restart {
					w.restart()
				} else {
					w.faults.Clear()
				}
				if got, err := w.decrypt(key, old); err != nil || got != "old" {
					t.Fatalf("between: %q, %v", got, err)
				}
				r, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: key, RequestID: id})
				if err != nil {
					t.Fatalf("RotateKey repeated: %v", err)
				}
				if r.Version.Name != key.Version(2) || r.Key.VersionCount != 2 || r.Key.Primary != 2 {
					t.Fatalf("RotateKey returned version %s, key %+v", r.Version.Name, r.Key)
				}
				if n := w.objects(); n != 2 {
					t.Fatalf("the token holds %d objects", n)
				}
			})
		}
	}
}

// A revocation holds from the commit on, whatever becomes of the token object, and the
// next start switches the object off.
func TestRevocationHoldsWhenTheTokenFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	uid := w.uid(name.Version(1))
	w.faults.FailBefore(hsmtest.MethodSetUsable, hsm.ErrUnavailable)
	change, err := w.service.RevokeKeyVersion(t.Context(), admin,
		&kms.RevokeRequest{Name: name.Version(1), Reason: "leaked", DataLossAccepted: true})
	if err != nil || change.Switch != kms.SwitchFailed {
		t.Fatalf("RevokeKeyVersion: switch %v, error %v", change, err)
	}
	_, err = w.decrypt(name, ciphertext)
	wantError(t, err, kms.ErrVersionRevoked, "Decrypt")
	w.restart()
	object, err := w.faults.Key(t.Context(), uid)
	if err != nil || object.Usable {
		t.Fatalf("after a restart the object is usable: %v, error %v", object.Usable, err)
	}
	_, err = w.decrypt(name, ciphertext)
	wantError(t, err, kms.ErrVersionRevoked, "Decrypt after a restart")
}

// An enabling whose token call took effect and failed all the same leaves the object
// off, as the row says.
func TestEnableThatFailsLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	version := w.create("orders", kms.ProfileDerived).Version(1)
	uid := w.uid(version)
	if _, err := w.service.DisableKeyVersion(t.Context(), admin, version, ""); err != nil {
		t.Fatal(err)
	}
	w.faults.FailAfter(hsmtest.MethodSetUsable, hsm.ErrUnavailable, 1)
	_, err := w.service.EnableKeyVersion(t.Context(), admin, version, "")
	wantError(t, err, kms.ErrTokenUnavailable, "EnableKeyVersion")
	if object, err := w.faults.Key(t.Context(), uid); err != nil || object.Usable {
		t.Fatalf("the object of a disabled version is usable: %v, error %v", object.Usable, err)
	}
}

// A revocation whose commit was lost on the way back holds, and one that was not made
// does not; either way the caller may repeat it.
func TestRevocationWithAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} {
		w := newWorld(t, hsmtest.MemoryConfig{}, nil)
		name := w.create("orders", kms.ProfileDerived)
		ciphertext := w.mustEncrypt(name, "secret")
		request := &kms.RevokeRequest{Name: name.Version(1), Reason: "leaked", DataLossAccepted: true}
		w.store.failCommit(1, applied)
		_, err := w.service.RevokeKeyVersion(t.Context(), admin, request)
		wantError(t, err, kms.ErrStoreUnavailable, "RevokeKeyVersion")
		_, err = w.decrypt(name, ciphertext)
		if applied != errors.Is(err, kms.ErrVersionRevoked) {
			t.Fatalf("applied %v: Decrypt says %v", applied, err)
		}
		if _, err = w.service.RevokeKeyVersion(t.Context(), admin, request); err != nil {
			t.Fatalf("RevokeKeyVersion repeated: %v", err)
		}
		_, err = w.decrypt(name, ciphertext)
		wantError(t, err, kms.ErrVersionRevoked, "Decrypt")
	}
}

// What was done to the token while the service was down is noticed at the start or at
// the first use, named, and costs only the versions concerned.
func TestTamperingWithTheToken(t *testing.T) {
	t.Parallel()
	tamper := map[string]func(w *world, uid, other hsm.UID) error{
		"object deleted":      func(w *world, uid, _ hsm.UID) error { return w.memory.TamperDelete(uid) },
		"object switched off": func(w *world, uid, _ hsm.UID) error { return w.memory.TamperUsable(uid, false) },
		"value replaced":      func(w *world, uid, _ hsm.UID) error { return w.memory.TamperValue(uid) },
		"objects swapped":     func(w *world, uid, other hsm.UID) error { return w.memory.TamperSwap(uid, other) },
	}
	for _, profile := range []kms.Profile{kms.ProfileDerived, kms.ProfileStrict} {
		for doing, change := range tamper {
			t.Run(profile.String()+"/"+doing, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, hsmtest.MemoryConfig{}, nil)
				victim, second, bystander := w.create("victim", profile), w.create("second", profile), w.create("bystander", profile)
				ciphertext, fine := w.mustEncrypt(victim, "secret"), w.mustEncrypt(bystander, "fine")
				uid, other := w.uid(victim.Version(1)), w.uid(second.Version(1))
				w.stop()
				if err := change(w, uid, other); err != nil {
					t.Fatal(err)
				}
				w.mustStart()
				_, err := w.decrypt(victim, ciphertext)
				wantError(t, err, kms.ErrVersionUnavailable, "Decrypt")
				_, err = w.encrypt(victim, "x")
				wantError(t, err, kms.ErrNoEnabledPrimary, "Encrypt")
				if got, err := w.decrypt(bystander, fine); err != nil || got != "fine" {
					t.Fatalf("another key: %q, %v", got, err)
				}
				v, err := w.service.GetKeyVersion(t.Context(), admin, victim.Version(1))
				if err != nil || v.Unavailable == "" {
					t.Fatalf("GetKeyVersion: unavailable %q, error %v", v.Unavailable, err)
				}
				if named := w.namedUnavailable(); !slices.Contains(named, victim.Version(1).String()) {
					t.Fatalf("Diagnose names %q", named)
				}
			})
		}
	}
}

// Objects of versions that may not be used are switched off at the start; none is ever
// switched on.
func TestStartSwitchesObjectsOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	disabled, revoked := w.create("disabled", kms.ProfileDerived), w.create("revoked", kms.ProfileStrict)
	if _, err := w.service.DisableKeyVersion(t.Context(), admin, disabled.Version(1), ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: revoked.Version(1), Reason: "r"}); err != nil {
		t.Fatal(err)
	}
	uids := []hsm.UID{w.uid(disabled.Version(1)), w.uid(revoked.Version(1))}
	w.stop()
	for _, uid := range uids {
		if err := w.memory.TamperUsable(uid, true); err != nil {
			t.Fatal(err)
		}
	}
	w.mustStart()
	for _, uid := range uids {
		if object, err := w.faults.Key(t.Context(), uid); err != nil || object.Usable {
			t.Fatalf("object %s is usable: %v, error %v", uid, object.Usable, err)
		}
	}
	if w.faults.Count(hsmtest.MethodSetUsable) != 2 {
		t.Fatalf("SetUsable was called %d times", w.faults.Count(hsmtest.MethodSetUsable))
	}
}

// An operator may enable a version again whose object was switched off from outside.
func TestEnableRepairsASwitchedOffObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	if err := w.memory.TamperUsable(w.uid(name.Version(1)), false); err != nil {
		t.Fatal(err)
	}
	w.restart()
	_, err := w.decrypt(name, ciphertext)
	wantError(t, err, kms.ErrVersionUnavailable, "Decrypt")
	if _, err := w.service.EnableKeyVersion(t.Context(), admin, name.Version(1), "checked"); err != nil {
		t.Fatal(err)
	}
	if got, err := w.decrypt(name, ciphertext); err != nil || got != "secret" {
		t.Fatalf("after enabling: %q, %v", got, err)
	}
	if named := w.namedUnavailable(); len(named) != 0 {
		t.Fatalf("Diagnose still names %q", named)
	}
}

// namedUnavailable is which versions Diagnose names as unavailable.
func (w *world) namedUnavailable() []string {
	w.t.Helper()
	findings, err := w.service.Diagnose(w.t.Context(), admin)
	if err != nil {
		w.t.Fatalf("Diagnose: %v", err)
	}
	var named []string
	for _, f := range findings {
		if f.Severity == kms.SeverityError && strings.HasPrefix(f.Detail, "the version is unavailable: ") {
			named = append(named, f.Check)
		}
	}
	return named
}

// A version that is unavailable because its object was switched off is no longer, when it
// is revoked: off is how the object has to be. One whose object is gone stays so.
func TestRevocationOfAnUnavailableVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	off, gone := w.create("off", kms.ProfileDerived).Version(1), w.create("gone", kms.ProfileDerived).Version(1)
	if err := errors.Join(w.memory.TamperUsable(w.uid(off), false), w.memory.TamperDelete(w.uid(gone))); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if named := w.namedUnavailable(); len(named) != 2 {
		t.Fatalf("Diagnose names %q", named)
	}
	for _, v := range []kms.VersionName{off, gone} {
		if _, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "r", DataLossAccepted: true}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if why := w.version(off).Unavailable; why != "" {
			t.Fatalf("the revoked version is unavailable: %s", why)
		}
		if named := w.namedUnavailable(); !slices.Equal(named, []string{gone.String()}) {
			t.Fatalf("Diagnose names %q", named)
		}
		w.restart()
	}
}

// An object that is switched off while the service runs is refused by the token.
func TestTokenRefusesBehindTheServicesBack(t *testing.T) {
	t.Parallel()
	for _, profile := range []kms.Profile{kms.ProfileDerived, kms.ProfileStrict} {
		w := newWorld(t, hsmtest.MemoryConfig{}, nil)
		name := w.create("orders", profile)
		ciphertext := w.mustEncrypt(name, "secret")
		if err := w.memory.TamperUsable(w.uid(name.Version(1)), false); err != nil {
			t.Fatal(err)
		}
		_, err := w.decrypt(name, ciphertext)
		wantError(t, err, kms.ErrTokenRefused, "Decrypt")
	}
}

// Another token, or one whose seal key is gone, is refused before anything is made.
func TestStartRefusesAnotherToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	w.create("orders", kms.ProfileDerived)
	w.stop()
	w.memory = hsmtest.NewMemory(hsmtest.MemoryConfig{})
	err := w.start()
	wantError(t, err, kms.ErrTokenRefused, "start on another token")
}

// A token that switches usage, and cannot with one object, has failed.
func TestObjectThatCannotBeSwitched(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	name := w.create("orders", kms.ProfileDerived)
	w.faults.FailBefore(hsmtest.MethodSetUsable, hsm.ErrUnsupported)
	change, err := w.service.DisableKeyVersion(t.Context(), admin, name.Version(1), "")
	if err != nil || change.Switch != kms.SwitchFailed {
		t.Fatalf("DisableKeyVersion: %+v, %v", change, err)
	}
	_, err = w.service.EnableKeyVersion(t.Context(), admin, name.Version(1), "")
	wantError(t, err, kms.ErrUnsupported, "EnableKeyVersion")
}

// A module that cannot switch usage says so, and revocation holds by metadata alone.
func TestTokenWithoutUsageSwitch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{NoUsageSwitch: true}, nil)
	name := w.create("orders", kms.ProfileDerived)
	ciphertext := w.mustEncrypt(name, "secret")
	change, err := w.service.DisableKeyVersion(t.Context(), admin, name.Version(1), "")
	if err != nil || change.Switch != kms.SwitchUnsupported {
		t.Fatalf("DisableKeyVersion: %+v, %v", change, err)
	}
	_, err = w.decrypt(name, ciphertext)
	wantError(t, err, kms.ErrVersionDisabled, "Decrypt")
	w.restart()
	_, err = w.decrypt(name, ciphertext)
	wantError(t, err, kms.ErrVersionDisabled, "Decrypt after a restart")
	if _, err = w.service.EnableKeyVersion(t.Context(), admin, name.Version(1), ""); err != nil {
		t.Fatal(err)
	}
	if got, err := w.decrypt(name, ciphertext); err != nil || got != "secret" {
		t.Fatalf("after enabling: %q, %v", got, err)
	}
}

// Tokens that choose their own nonces, that take no session keys, or that cannot make
// STRICT keys are served as far as they go.
func TestTokenVarieties(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]hsmtest.MemoryConfig{
		"12-byte nonces of its own": {NonceSize: 12},
		"16-byte nonces of its own": {NonceSize: 16},
		"no session keys":           {NoSessionKeys: true},
		"small blocks":              {MaxBlockBytes: 64},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, config, nil)
			for _, profile := range []kms.Profile{kms.ProfileDerived, kms.ProfileStrict} {
				key := w.create("k-"+map[kms.Profile]string{kms.ProfileDerived: "d", kms.ProfileStrict: "s"}[profile], profile)
				ciphertext := w.mustEncrypt(key, "secret")
				w.restart()
				if got, err := w.decrypt(key, ciphertext); err != nil || got != "secret" {
					t.Fatalf("%s: %q, %v", profile, got, err)
				}
			}
		})
	}
	w := newWorld(t, hsmtest.MemoryConfig{Specs: []hsm.KeySpec{hsm.AES256Blocks}}, nil)
	_, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: keyName(t, "strict"), Profile: kms.ProfileStrict})
	wantError(t, err, kms.ErrUnsupported, "CreateKey STRICT on a token without GCM")
	_, err = w.service.GetKey(t.Context(), admin, keyName(t, "strict"))
	wantError(t, err, kms.ErrKeyNotFound, "GetKey of the refused key")
	w.create("derived", kms.ProfileDerived)
}
