package kms_test

import (
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

func (w *world) setPrimary(v kms.VersionName) (*kms.SetPrimaryResult, error) {
	return w.service.SetPrimaryKeyVersion(w.t.Context(), admin, &kms.SetPrimaryRequest{Name: v, Reason: "moving in"})
}

// An imported version becomes primary after it has stood beside the primary one; all
// replicas use it when the call returns, and the record says who did it and why.
func TestImportedVersionBecomesPrimary(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, nil)
	other := w.newReplica()
	name, job := w.create("orders", kms.ProfileDerived), w.job("laptop")
	imported := w.mustImport(&kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: wrap(t, job, randomKey(32))}).Version
	r, err := w.setPrimary(imported.Name)
	if err != nil || !r.Version.Primary || !r.Version.Imported || r.Key.Primary != 2 || len(r.Spread.Acknowledged) != 2 {
		t.Fatalf("SetPrimaryKeyVersion: %+v, %v", r, err)
	}
	e, err := other.service.Encrypt(t.Context(), admin, &kms.EncryptRequest{Key: name, Plaintext: []byte("x")})
	if err != nil || e.Version != imported.Name {
		t.Fatalf("another replica encrypts: %+v, %v", e, err)
	}
	event := w.auditor.find(kms.ActionSetPrimary)
	if event.Resource != imported.Name.String() || event.Reason != "moving in" || event.Principal.Name != admin.Name || event.Spread == nil {
		t.Fatalf("the record: %+v", event)
	}

	strict := w.create("counted", kms.ProfileStrict)
	v := w.mustImport(&kms.ImportKeyVersionRequest{Key: strict, Job: job.Name, WrappedKey: wrap(t, job, randomKey(32))}).Version
	_, err = w.setPrimary(v.Name)
	wantError(t, err, kms.ErrEncryptionLimit, "SetPrimaryKeyVersion of an imported version of a STRICT key")
}

// A version that the rotation period has outlived does not become primary only to be
// replaced at once.
func TestPrimaryThatIsDue(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	name := w.create("orders", kms.ProfileDerived)
	clock.advance(kms.MinRotationPeriod)
	w.rotate(name)
	period := kms.MinRotationPeriod
	update := func(d time.Duration) {
		t.Helper()
		if _, err := w.service.UpdateKey(t.Context(), admin, &kms.UpdateKeyRequest{Name: name, RotationPeriod: &d}); err != nil {
			t.Fatal(err)
		}
	}
	update(period)
	_, err := w.setPrimary(name.Version(1))
	wantError(t, err, kms.ErrRotationDue, "SetPrimaryKeyVersion of a version that is due")
	update(period + time.Second)
	if r, err := w.setPrimary(name.Version(1)); err != nil || r.Key.Primary != 1 {
		t.Fatalf("SetPrimaryKeyVersion: %+v, %v", r, err)
	}
}
