package kmstest

import (
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// testSetPrimary: an older version becomes primary again, and what makes nothing new does
// not; what other versions protect still opens.
func testSetPrimary(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	s.mustRotate(name)
	young := s.mustEncrypt(name, "secret", kms.Binding{})
	set := func(v kms.VersionName) (*kms.SetPrimaryResult, error) {
		return s.Admin.API.SetPrimaryKeyVersion(s.ctx, s.Admin.Principal, &kms.SetPrimaryRequest{Name: v, Reason: "too early"})
	}
	for range 2 { // it is idempotent
		r, err := set(name.Version(1))
		wantOK(t, err, "SetPrimaryKeyVersion")
		if !r.Version.Primary || r.Version.Name != name.Version(1) || r.Key.Primary != 1 || r.Key.VersionCount != 2 ||
			len(r.Spread.Acknowledged) == 0 || r.Spread.Revision == 0 {
			t.Fatalf("SetPrimaryKeyVersion: %+v of %+v, %+v", r.Version, r.Key, r.Spread)
		}
	}
	encrypted, err := s.Admin.API.Encrypt(s.ctx, s.Admin.Principal, &kms.EncryptRequest{Key: name, Plaintext: []byte("secret")})
	wantOK(t, err, "Encrypt")
	if encrypted.Version != name.Version(1) {
		t.Fatalf("encrypted under %s", encrypted.Version)
	}
	s.mustDecrypt(young, kms.Binding{})
	s.mustRotate(name)
	if v := s.mustGetVersion(name.Version(3)); !v.Primary {
		t.Fatalf("a rotation after that: %+v", v)
	}

	for _, step := range []struct {
		stop func() error
		want error
	}{
		{func() error { _, err := s.disable(name.Version(1), ""); return err }, kms.ErrVersionDisabled},
		{func() error { _, err := s.restrict(name.Version(1), ""); return err }, kms.ErrVersionRewrapOnly},
		{func() error { _, err := s.revoke(name.Version(1), "leaked", true); return err }, kms.ErrVersionRevoked},
		{func() error {
			_, err := s.schedule(&kms.DestructionRequest{Name: name.Version(1), Reason: "over", DataLossAccepted: true})
			return err
		}, kms.ErrVersionDestroyScheduled},
	} {
		wantOK(t, step.stop(), "a change of the version's state")
		_, err := set(name.Version(1))
		wantError(t, err, step.want, "SetPrimaryKeyVersion")
	}
	_, err = set(name.Version(4))
	wantError(t, err, kms.ErrVersionNotFound, "SetPrimaryKeyVersion of an unknown version")
	_, err = set(kms.VersionName{})
	wantError(t, err, kms.ErrInvalidRequest, "SetPrimaryKeyVersion without a name")

	period := time.Hour // the least would let time pass
	_, err = s.Admin.API.UpdateKey(s.ctx, s.Admin.Principal, &kms.UpdateKeyRequest{Name: name, RotationPeriod: &period})
	wantOK(t, err, "UpdateKey")
	_, err = set(name.Version(2))
	wantOK(t, err, "SetPrimaryKeyVersion within the rotation period")
}
