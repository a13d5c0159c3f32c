package kmstest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms"
)

func testRestrict(t *testing.T, s *suite) {
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		version := name.Version(1)
		ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
		dataKey := s.mustGenerate(name, 1)[0]

		change, err := s.restrict(version, "seen on a laptop")
		wantOK(t, err, "RestrictKeyVersion")
		if v := change.Version; v.State != kms.StateRewrapOnly || v.StateReason != "seen on a laptop" || v.StatePrincipal == "" {
			t.Fatalf("RestrictKeyVersion returned %+v", v)
		}
		_, err = s.encrypt(name, "x", kms.Binding{})
		e := wantRefusal(t, err, kms.ErrNoEnabledPrimary, "Encrypt under a restricted primary")
		wantMetadata(t, e, "state", "REWRAP_ONLY")
		_, err = s.decrypt(ciphertext, kms.Binding{})
		e = wantRefusal(t, err, kms.ErrVersionRewrapOnly, "Decrypt under a restricted version")
		wantMetadata(t, e, "key_version", version.String())
		wantMetadata(t, e, "state_reason", "seen on a laptop")
		wantMetadata(t, e, "state_time", "")
		wantError(t, s.mustUnwrap(kms.DataKeyItem{Wrapped: dataKey.Wrapped})[0].Err, kms.ErrVersionRewrapOnly,
			"unwrap under a restricted version")
		again, err := s.restrict(version, "again")
		wantOK(t, err, "RestrictKeyVersion again")
		if again.Version.StateReason != "seen on a laptop" {
			t.Fatalf("the reason became %q", again.Version.StateReason)
		}
		_, err = s.schedule(&kms.DestructionRequest{Name: version, Reason: "r", DataLossAccepted: true})
		wantError(t, err, kms.ErrTransition, "ScheduleKeyVersionDestruction of a restricted version")

		s.mustRotate(name)
		s.wantRewraps(name, ciphertext, dataKey)
		_, err = s.enable(version)
		wantOK(t, err, "EnableKeyVersion")
		if got := s.mustDecrypt(ciphertext, kms.Binding{}); got != "secret" {
			t.Fatalf("after enabling again: %q", got)
		}
	}
	name := s.mustCreate("later", kms.ProfileDerived)
	_, err := s.disable(name.Version(1), "")
	wantOK(t, err, "DisableKeyVersion")
	_, err = s.restrict(name.Version(1), "")
	wantOK(t, err, "RestrictKeyVersion of a disabled version")
	_, err = s.revoke(name.Version(1), "over", true)
	wantOK(t, err, "RevokeKeyVersion of a restricted version")
	_, err = s.restrict(name.Version(1), "")
	wantError(t, err, kms.ErrTransition, "RestrictKeyVersion of a revoked version")
}

// wantRewraps fails the test unless what version 1 of a key protects comes out under
// version 2, unchanged.
func (s *suite) wantRewraps(name kms.KeyName, ciphertext []byte, dataKey kms.DataKeyResult) {
	s.Helper()
	moved, err := s.Admin.API.ReEncrypt(s.ctx, s.Admin.Principal,
		&kms.ReEncryptRequest{Parent: name.Namespace(), Ciphertext: ciphertext})
	wantOK(s, err, "ReEncrypt")
	if moved.Source != name.Version(1) || moved.Version != name.Version(2) {
		s.Fatalf("ReEncrypt went from %s to %s", moved.Source, moved.Version)
	}
	if got := s.mustDecrypt(moved.Ciphertext, kms.Binding{}); got != "secret" {
		s.Fatalf("what was re-encrypted opens as %q", got)
	}
	rewrapped, err := s.Admin.API.RewrapDataKeys(s.ctx, s.Admin.Principal, &kms.RewrapDataKeysRequest{
		Parent: name.Namespace(), Items: []kms.DataKeyItem{{Wrapped: dataKey.Wrapped}},
	})
	wantOK(s, err, "RewrapDataKeys")
	wantOK(s, rewrapped[0].Err, "rewrap")
	if rewrapped[0].Version != name.Version(1) || rewrapped[0].Target != name.Version(2) {
		s.Fatalf("the rewrap went from %s to %s", rewrapped[0].Version, rewrapped[0].Target)
	}
	opened := s.mustUnwrap(kms.DataKeyItem{Wrapped: rewrapped[0].Wrapped})[0]
	wantOK(s, opened.Err, "unwrap of what was rewrapped")
	if !slices.Equal(opened.DataKey, dataKey.DataKey) {
		s.Fatal("the rewrap changed the data key")
	}
}

func testRotationRestricts(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	s.mustRotate(name)
	s.mustRotate(name)
	_, err := s.disable(name.Version(2), "")
	wantOK(t, err, "DisableKeyVersion")
	ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})

	_, err = s.rotate(&kms.RotateKeyRequest{Name: name, RestrictPrevious: true})
	wantViolation(t, err, "reason", "RotateKey that restricts for no reason")
	if got := s.mustDecrypt(ciphertext, kms.Binding{}); got != "secret" {
		t.Fatalf("after the refused rotation: %q", got)
	}
	request := &kms.RotateKeyRequest{
		Name: name, RequestID: uuid.NewString(), RestrictPrevious: true, Reason: "a backup was stolen",
	}
	for _, doing := range []string{"RotateKey", "RotateKey repeated"} {
		rotated, err := s.rotate(request)
		wantOK(t, err, doing)
		if rotated.Version.Name != name.Version(4) || rotated.Key.Primary != 4 || len(rotated.Restricted) != 2 {
			t.Fatalf("%s returned %+v", doing, rotated)
		}
		for i, number := range []uint32{1, 3} {
			v := rotated.Restricted[i]
			if v.Name != name.Version(number) || v.State != kms.StateRewrapOnly || v.StateReason != "a backup was stolen" || v.Primary {
				t.Fatalf("%s restricted %+v", doing, v)
			}
		}
	}
	if v := s.mustGetVersion(name.Version(2)); v.State != kms.StateDisabled {
		t.Fatalf("the disabled version became %s", v.State)
	}
	_, err = s.decrypt(ciphertext, kms.Binding{})
	wantError(t, err, kms.ErrVersionRewrapOnly, "Decrypt under the former primary")
	s.mustEncrypt(name, "new", kms.Binding{})
	other := *request
	other.RestrictPrevious = false
	_, err = s.rotate(&other)
	wantError(t, err, kms.ErrRequestIDReused, "RotateKey with the id of another rotation")
}

func testDestruction(t *testing.T, s *suite) {
	const window = 48 * time.Hour
	for _, p := range profiles {
		name := s.mustCreate("k-"+string('a'+rune(p)), p)
		version := name.Version(1)
		ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
		_, err := s.schedule(&kms.DestructionRequest{Name: version, DataLossAccepted: true})
		wantViolation(t, err, "reason", "a destruction for no reason")
		for _, short := range []time.Duration{time.Nanosecond, -time.Hour} {
			_, err = s.schedule(&kms.DestructionRequest{Name: version, Reason: "r", Window: short, DataLossAccepted: true})
			wantViolation(t, err, "window", "a destruction too soon")
		}
		_, err = s.schedule(&kms.DestructionRequest{Name: version, Reason: "old"})
		wantError(t, err, kms.ErrDataLoss, "the destruction of a version in use")
		s.mustRotate(name)

		before := time.Now().Add(-time.Second)
		request := &kms.DestructionRequest{Name: version, Reason: "old", Window: window, DataLossAccepted: true}
		change, err := s.schedule(request)
		wantOK(t, err, "ScheduleKeyVersionDestruction")
		v := change.Version
		if v.State != kms.StateDestroyScheduled || v.RestoreTo != kms.StateDisabled || v.StateReason != "old" ||
			v.DestroyTime.Before(before.Add(window)) || v.DestroyTime.After(time.Now().Add(window+time.Minute)) {
			t.Fatalf("ScheduleKeyVersionDestruction returned %+v", v)
		}
		_, err = s.decrypt(ciphertext, kms.Binding{})
		e := wantRefusal(t, err, kms.ErrVersionDestroyScheduled, "Decrypt under a version to be destroyed")
		wantMetadata(t, e, "state_reason", "old")
		again, err := s.schedule(request)
		wantOK(t, err, "ScheduleKeyVersionDestruction again")
		if !again.Version.DestroyTime.Equal(v.DestroyTime) {
			t.Fatalf("the time of destruction became %v", again.Version.DestroyTime)
		}
		for doing, change := range map[string]func(kms.VersionName) (*kms.StateChange, error){
			"EnableKeyVersion":   s.enable,
			"DisableKeyVersion":  func(v kms.VersionName) (*kms.StateChange, error) { return s.disable(v, "") },
			"RestrictKeyVersion": func(v kms.VersionName) (*kms.StateChange, error) { return s.restrict(v, "") },
		} {
			_, err = change(version)
			wantError(t, err, kms.ErrTransition, doing+" of a version to be destroyed")
		}

		change, err = s.restore(version)
		wantOK(t, err, "RestoreKeyVersion")
		if v := change.Version; v.State != kms.StateDisabled || !v.DestroyTime.IsZero() || v.RestoreTo != 0 {
			t.Fatalf("RestoreKeyVersion returned %+v", v)
		}
		_, err = s.restore(version)
		wantOK(t, err, "RestoreKeyVersion again")
		_, err = s.enable(version)
		wantOK(t, err, "EnableKeyVersion of a restored version")
		if got := s.mustDecrypt(ciphertext, kms.Binding{}); got != "secret" {
			t.Fatalf("after the restoration: %q", got)
		}
		_, err = s.restore(version)
		wantError(t, err, kms.ErrTransition, "RestoreKeyVersion of an enabled version")
	}
}

// No way through a destruction leads from REVOKED to a use.
func testDestructionOfRevoked(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	version := name.Version(1)
	ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
	_, err := s.revoke(version, "leaked", true)
	wantOK(t, err, "RevokeKeyVersion")
	change, err := s.schedule(&kms.DestructionRequest{Name: version, Reason: "tidy up", DataLossAccepted: true})
	wantOK(t, err, "ScheduleKeyVersionDestruction")
	if v := change.Version; v.RestoreTo != kms.StateRevoked || v.DestroyTime.Before(time.Now().Add(24*time.Hour)) {
		t.Fatalf("with the default window: %+v", v)
	}
	change, err = s.restore(version)
	wantOK(t, err, "RestoreKeyVersion")
	if change.Version.State != kms.StateRevoked {
		t.Fatalf("a revoked version was restored to %s", change.Version.State)
	}
	_, err = s.enable(version)
	wantError(t, err, kms.ErrTransition, "EnableKeyVersion of a revoked version")
	_, err = s.decrypt(ciphertext, kms.Binding{})
	wantError(t, err, kms.ErrVersionRevoked, "Decrypt under a revoked version")
}

// Each change that promises to be known by all replicas says by which.
func testSpread(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	rotated, err := s.rotate(&kms.RotateKeyRequest{Name: name})
	wantOK(t, err, "RotateKey")
	last := kms.Revision(0)
	check := func(doing string, spread kms.Spread) {
		t.Helper()
		if len(spread.Acknowledged) == 0 || len(spread.Expired) > 0 || spread.Revision <= last || spread.Took < 0 {
			t.Errorf("%s spread as %+v after revision %d", doing, spread, last)
		}
		last = spread.Revision
	}
	check("RotateKey", rotated.Spread)
	version := name.Version(1)
	for _, step := range []struct {
		doing  string
		change func() (*kms.StateChange, error)
	}{
		{"DisableKeyVersion", func() (*kms.StateChange, error) { return s.disable(version, "") }},
		{"EnableKeyVersion", func() (*kms.StateChange, error) { return s.enable(version) }},
		{"RestrictKeyVersion", func() (*kms.StateChange, error) { return s.restrict(version, "") }},
		{"RevokeKeyVersion", func() (*kms.StateChange, error) { return s.revoke(version, "r", true) }},
		{"ScheduleKeyVersionDestruction", func() (*kms.StateChange, error) {
			return s.schedule(&kms.DestructionRequest{Name: version, Reason: "r", DataLossAccepted: true})
		}},
		{"RestoreKeyVersion", func() (*kms.StateChange, error) { return s.restore(version) }},
	} {
		change, err := step.change()
		wantOK(t, err, step.doing)
		check(step.doing, change.Spread)
		if change.Switch == 0 {
			t.Errorf("%s does not say what became of the token object", step.doing)
		}
	}
}

func testUsage(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	if usage := s.mustGetVersion(name.Version(1)).Usage; len(usage) != 0 {
		t.Fatalf("a new version was used: %+v", usage)
	}
	before := time.Now().Add(-time.Minute)
	ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
	s.mustEncrypt(name, "secret", kms.Binding{})
	s.mustDecrypt(ciphertext, kms.Binding{})
	_, err := s.decrypt(ciphertext, kms.Binding{AAD: []byte("other")})
	wantError(t, err, kms.ErrDecryptionFailed, "Decrypt with another binding")
	items := make([]kms.DataKeyItem, 0, 5)
	for _, r := range s.mustGenerate(name, 5) {
		items = append(items, kms.DataKeyItem{Wrapped: r.Wrapped})
	}
	s.mustUnwrap(items[:3]...)
	s.mustRotate(name)
	rewrapped, err := s.Admin.API.RewrapDataKeys(s.ctx, s.Admin.Principal,
		&kms.RewrapDataKeysRequest{Parent: name.Namespace(), Items: items[:4]})
	wantOK(t, err, "RewrapDataKeys")
	for _, r := range rewrapped {
		wantOK(t, r.Err, "rewrap")
	}
	_, err = s.Admin.API.ReEncrypt(s.ctx, s.Admin.Principal,
		&kms.ReEncryptRequest{Parent: name.Namespace(), Ciphertext: ciphertext})
	wantOK(t, err, "ReEncrypt")

	check := func(v *kms.VersionInfo, want []kms.UsageCount) {
		t.Helper()
		if len(v.Usage) != len(want) {
			t.Fatalf("%s was used as %+v, want %+v", v.Name, v.Usage, want)
		}
		for i, u := range v.Usage {
			if u.Action != want[i].Action || u.Count != want[i].Count || u.LastUsed.Before(before) ||
				u.LastUsed.After(time.Now().Add(time.Minute)) {
				t.Errorf("%s was used as %+v, want %s %d times", v.Name, u, want[i].Action, want[i].Count)
			}
		}
	}
	first := []kms.UsageCount{ // in the order of the actions' names
		{Action: kms.ActionDecrypt, Count: 1},
		{Action: kms.ActionEncrypt, Count: 2},
		{Action: kms.ActionGenerateDataKey, Count: 5},
		{Action: kms.ActionReEncryptFrom, Count: 1},
		{Action: kms.ActionRewrapDataKey, Count: 4},
		{Action: kms.ActionUnwrapDataKey, Count: 3},
	}
	second := []kms.UsageCount{{Action: kms.ActionReEncryptTo, Count: 1}, {Action: kms.ActionRewrapDataKey, Count: 4}}
	check(s.mustGetVersion(name.Version(1)), first)
	check(s.mustGetVersion(name.Version(2)), second)
	list, err := s.Admin.API.ListKeyVersions(s.ctx, s.Admin.Principal, name, kms.Page{})
	wantOK(t, err, "ListKeyVersions")
	check(list.Versions[0], first)
	check(list.Versions[1], second)
}
