package kmstest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms"
)

func testRotation(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		old := s.mustEncrypt(name, "old", kms.Binding{})
		rotated, err := s.rotate(&kms.RotateKeyRequest{Name: name})
		wantOK(t, err, "RotateKey")
		if rotated.Version.Name != name.Version(2) || !rotated.Version.Primary || rotated.Version.State != kms.StateEnabled ||
			rotated.Key.Primary != 2 || rotated.Key.VersionCount != 2 {
			t.Fatalf("RotateKey returned %+v, %+v", rotated.Version, rotated.Key)
		}
		first, err := s.Admin.API.GetKeyVersion(s.ctx, s.Admin.Principal, name.Version(1))
		wantOK(t, err, "GetKeyVersion")
		if first.Primary || first.State != kms.StateEnabled || first.UID == rotated.Version.UID {
			t.Fatalf("after the rotation version 1 is %+v", first)
		}
		fresh, err := s.encrypt(name, "new", kms.Binding{})
		wantOK(t, err, "Encrypt after the rotation")
		if fresh.Version != name.Version(2) {
			t.Fatalf("new data uses %s", fresh.Version)
		}
		opened, err := s.decrypt(old, kms.Binding{})
		wantOK(t, err, "Decrypt of old data")
		if string(opened.Plaintext) != "old" || opened.Version != name.Version(1) {
			t.Fatalf("old data opens as %q under %s", []byte(opened.Plaintext), opened.Version)
		}
	}
	_, err := s.rotate(&kms.RotateKeyRequest{Name: s.key("absent")})
	wantError(t, err, kms.ErrKeyNotFound, "RotateKey of none")
	_, err = s.rotate(&kms.RotateKeyRequest{Name: s.key("absent"), RequestID: "no uuid"})
	wantViolation(t, err, "request_id", "RotateKey with a bad request id")
}

func testRotationRetried(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	id := uuid.NewString()
	for range 3 {
		r, err := s.rotate(&kms.RotateKeyRequest{Name: name, RequestID: id})
		wantOK(t, err, "RotateKey")
		if r.Version.Name.Number() != 2 || r.Key.VersionCount != 2 {
			t.Fatalf("a repeated rotation returned version %d of %d", r.Version.Name.Number(), r.Key.VersionCount)
		}
	}
	created := uuid.NewString()
	_, err := s.Admin.API.CreateKey(s.ctx, s.Admin.Principal, &kms.CreateKeyRequest{Name: s.key("other"), RequestID: created})
	wantOK(t, err, "CreateKey")
	_, err = s.rotate(&kms.RotateKeyRequest{Name: s.key("other"), RequestID: created})
	wantError(t, err, kms.ErrRequestIDReused, "RotateKey with the id of CreateKey")
}

func testDisable(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		version := name.Version(1)
		ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
		wrapped := s.mustGenerate(name, 1)[0].Wrapped

		before := time.Now().Add(-time.Second)
		change, err := s.disable(version, "investigation 7")
		wantOK(t, err, "DisableKeyVersion")
		v := change.Version
		if v.State != kms.StateDisabled || v.StateReason != "investigation 7" || v.StatePrincipal == "" || v.StateTime.Before(before) {
			t.Fatalf("DisableKeyVersion returned %+v", v)
		}
		if change.Switch == 0 {
			t.Fatal("DisableKeyVersion does not say what became of the token object")
		}
		_, err = s.decrypt(ciphertext, kms.Binding{})
		e := wantRefusal(t, err, kms.ErrVersionDisabled, "Decrypt under a disabled version")
		wantMetadata(t, e, "key_version", version.String())
		wantMetadata(t, e, "state_reason", "investigation 7")
		wantMetadata(t, e, "state_time", "")
		wantError(t, s.mustUnwrap(kms.DataKeyItem{Wrapped: wrapped})[0].Err, kms.ErrVersionDisabled, "unwrap under a disabled version")
		_, err = s.encrypt(name, "x", kms.Binding{})
		wantError(t, err, kms.ErrNoEnabledPrimary, "Encrypt under a disabled primary")

		_, err = s.disable(version, "again")
		wantOK(t, err, "DisableKeyVersion again")
		change, err = s.enable(version)
		wantOK(t, err, "EnableKeyVersion")
		if change.Version.State != kms.StateEnabled {
			t.Fatalf("EnableKeyVersion returned %+v", change.Version)
		}
		if got := s.mustDecrypt(ciphertext, kms.Binding{}); got != "secret" {
			t.Fatalf("after enabling again: %q", got)
		}
		s.mustEncrypt(name, "y", kms.Binding{})
	}
}

func testRevoke(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		version := name.Version(1)
		_, err := s.revoke(version, " ", true)
		wantViolation(t, err, "reason", "RevokeKeyVersion without a reason")
		ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
		wrapped := s.mustGenerate(name, 1)[0].Wrapped

		_, err = s.revoke(version, "leaked", false)
		e := wantRefusal(t, err, kms.ErrDataLoss, "RevokeKeyVersion of a version in use")
		wantMetadata(t, e, "first_use_time", "")
		if got := s.mustDecrypt(ciphertext, kms.Binding{}); got != "secret" {
			t.Fatalf("after the refused revocation: %q", got)
		}
		s.mustRotate(name)
		change, err := s.revoke(version, "leaked", true)
		wantOK(t, err, "RevokeKeyVersion")
		if change.Version.State != kms.StateRevoked || change.Version.StateReason != "leaked" {
			t.Fatalf("RevokeKeyVersion returned %+v", change.Version)
		}
		_, err = s.decrypt(ciphertext, kms.Binding{})
		e = wantRefusal(t, err, kms.ErrVersionRevoked, "Decrypt under a revoked version")
		wantMetadata(t, e, "state_reason", "leaked")
		wantMetadata(t, e, "state_time", "")
		wantError(t, s.mustUnwrap(kms.DataKeyItem{Wrapped: wrapped})[0].Err, kms.ErrVersionRevoked, "unwrap under a revoked version")
		rewrapped, err := s.Admin.API.RewrapDataKeys(s.ctx, s.Admin.Principal, &kms.RewrapDataKeysRequest{
			Parent: name.Namespace(), Items: []kms.DataKeyItem{{Wrapped: wrapped}},
		})
		wantOK(t, err, "RewrapDataKeys")
		wantError(t, rewrapped[0].Err, kms.ErrVersionRevoked, "rewrap from a revoked version")

		_, err = s.enable(version)
		wantError(t, err, kms.ErrTransition, "EnableKeyVersion of a revoked version")
		_, err = s.disable(version, "")
		wantError(t, err, kms.ErrTransition, "DisableKeyVersion of a revoked version")
		again, err := s.revoke(version, "another reason", true)
		wantOK(t, err, "RevokeKeyVersion again")
		if again.Version.StateReason != "leaked" {
			t.Fatalf("the reason became %q", again.Version.StateReason)
		}
		fresh := s.mustEncrypt(name, "new", kms.Binding{})
		if got := s.mustDecrypt(fresh, kms.Binding{}); got != "new" {
			t.Fatalf("the new version opens %q", got)
		}
	}
}

func testRevokedPrimary(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	_, err := s.revoke(name.Version(1), "made by mistake", false)
	wantOK(t, err, "RevokeKeyVersion of a version that was never used")
	_, err = s.encrypt(name, "x", kms.Binding{})
	e := wantRefusal(t, err, kms.ErrNoEnabledPrimary, "Encrypt under a revoked primary")
	wantMetadata(t, e, "state", "REVOKED")
	key, err := s.Admin.API.GetKey(s.ctx, s.Admin.Principal, name)
	wantOK(t, err, "GetKey")
	if key.Primary != 1 || key.PrimaryState != kms.StateRevoked {
		t.Fatalf("GetKey returned primary %d in state %s", key.Primary, key.PrimaryState)
	}
	s.mustRotate(name)
	s.mustEncrypt(name, "x", kms.Binding{})
}

func testTransitions(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	_, err := s.enable(name.Version(1))
	wantOK(t, err, "EnableKeyVersion of an enabled version")
	_, err = s.disable(name.Version(1), "")
	wantOK(t, err, "DisableKeyVersion without a reason")
	_, err = s.revoke(name.Version(1), "over", true)
	wantOK(t, err, "RevokeKeyVersion of a disabled version")
	_, err = s.enable(name.Version(1))
	e := wantRefusal(t, err, kms.ErrTransition, "EnableKeyVersion of a revoked version")
	wantMetadata(t, e, "state", "REVOKED")

	long := string(make([]byte, kms.MaxReason+1))
	_, err = s.disable(name.Version(1), long)
	wantError(t, err, kms.ErrLimitExceeded, "DisableKeyVersion with a long reason")
	for doing, call := range map[string]func(kms.VersionName) error{
		"enable":   func(v kms.VersionName) error { _, err := s.enable(v); return err },
		"disable":  func(v kms.VersionName) error { _, err := s.disable(v, ""); return err },
		"revoke":   func(v kms.VersionName) error { _, err := s.revoke(v, "r", true); return err },
		"restrict": func(v kms.VersionName) error { _, err := s.restrict(v, ""); return err },
		"restore":  func(v kms.VersionName) error { _, err := s.restore(v); return err },
		"schedule": func(v kms.VersionName) error {
			_, err := s.schedule(&kms.DestructionRequest{Name: v, Reason: "r", DataLossAccepted: true})
			return err
		},
	} {
		wantError(t, call(name.Version(9)), kms.ErrVersionNotFound, doing+" of no version")
		wantError(t, call(s.key("absent").Version(1)), kms.ErrVersionNotFound, doing+" of no key")
	}
}
