package kmstest

import (
	"testing"

	"github.com/keyholt/keyholt/kms"
)

// Each state lets the versions of signing and MAC keys do what it says, and not more. What
// needs the public key only goes on, and tells the state.
func testStatesOfKeys(t *testing.T, s *suite) {
	message := []byte("m")
	for _, step := range []struct {
		state   kms.State
		change  func(v kms.VersionName) (*kms.StateChange, error)
		refusal error
	}{
		{kms.StateDisabled, func(v kms.VersionName) (*kms.StateChange, error) { return s.disable(v, "") }, kms.ErrVersionDisabled},
		{kms.StateRewrapOnly, func(v kms.VersionName) (*kms.StateChange, error) { return s.restrict(v, "") }, kms.ErrVersionRewrapOnly},
		{kms.StateRevoked, func(v kms.VersionName) (*kms.StateChange, error) { return s.revoke(v, "leaked", true) }, kms.ErrVersionRevoked},
		{kms.StateDestroyScheduled, func(v kms.VersionName) (*kms.StateChange, error) {
			return s.schedule(&kms.DestructionRequest{Name: v, Reason: "done", DataLossAccepted: true})
		}, kms.ErrVersionDestroyScheduled},
	} {
		id := string(rune('a' + int(step.state)))
		sign, mac := s.mustCreateAlgorithm("sign-"+id, kms.AlgorithmECP256SHA256), s.mustCreateAlgorithm("mac-"+id, kms.AlgorithmHMACSHA256)
		signed := s.mustSign(&kms.SignRequest{Key: sign, Message: message})
		made, err := s.mac(&kms.GenerateMacRequest{Key: mac, Message: message})
		wantOK(t, err, "GenerateMac")
		// The older version is stopped, so that the key goes on with another.
		s.mustRotate(sign)
		s.mustRotate(mac)
		for _, v := range []kms.VersionName{sign.Version(1), mac.Version(1)} {
			_, err := step.change(v)
			wantOK(t, err, "the change to "+step.state.String())
		}

		_, err = s.sign(&kms.SignRequest{Version: sign.Version(1), Message: message})
		wantError(t, err, step.refusal, "Sign by a version that is "+step.state.String())
		results, err := s.batchSign(&kms.BatchSignRequest{Items: []kms.SignItem{
			{Version: sign.Version(1), Message: message}, {Key: sign, Message: message},
		}})
		wantOK(t, err, "BatchSign")
		wantError(t, results[0].Err, step.refusal, "BatchSign by a version that is "+step.state.String())
		wantOK(t, results[1].Err, "BatchSign by the primary version")
		_, err = s.mac(&kms.GenerateMacRequest{Version: mac.Version(1), Message: message})
		wantError(t, err, step.refusal, "GenerateMac by a version that is "+step.state.String())
		_, err = s.verifyMac(&kms.VerifyMacRequest{Version: mac.Version(1), Message: message, Mac: made.Mac})
		wantError(t, err, step.refusal, "VerifyMac by a version that is "+step.state.String())

		v := s.wantVerdict(true, &kms.VerifyRequest{Version: sign.Version(1), Message: message, Signature: signed.Signature}, step.state.String())
		public, err := s.publicKey(&kms.GetPublicKeyRequest{Version: sign.Version(1)})
		wantOK(t, err, "GetPublicKey")
		if v.State != step.state || public.State != step.state {
			t.Fatalf("of a version that is %s, Verify says %s and GetPublicKey %s", step.state, v.State, public.State)
		}

		// A key whose primary version is stopped signs nothing new.
		if step.state == kms.StateDisabled {
			_, err = s.disable(sign.Version(2), "")
			wantOK(t, err, "DisableKeyVersion")
			_, err = s.sign(&kms.SignRequest{Key: sign, Message: message})
			wantError(t, err, kms.ErrNoEnabledPrimary, "Sign without a primary version")
			_, err = s.enable(sign.Version(1))
			wantOK(t, err, "EnableKeyVersion")
			s.mustSign(&kms.SignRequest{Version: sign.Version(1), Message: message})
		}
	}
}

// A signature is of the version that made it: after a rotation the key alone is not enough.
func testSignaturesOfOlderVersions(t *testing.T, s *suite) {
	message := []byte("m")
	sign, mac := s.mustCreateAlgorithm("sign", kms.AlgorithmEd25519), s.mustCreateAlgorithm("mac", kms.AlgorithmHMACSHA384)
	first := s.mustSign(&kms.SignRequest{Key: sign, Message: message})
	tag, err := s.mac(&kms.GenerateMacRequest{Key: mac, Message: message})
	wantOK(t, err, "GenerateMac")
	s.mustRotate(sign)
	s.mustRotate(mac)
	second := s.mustSign(&kms.SignRequest{Key: sign, Message: message})
	if second.Version != sign.Version(2) {
		t.Fatalf("after the rotation %s signs", second.Version)
	}
	s.wantVerdict(true, &kms.VerifyRequest{Key: sign, Message: message, Signature: second.Signature}, "the primary version's")
	s.wantVerdict(false, &kms.VerifyRequest{Key: sign, Message: message, Signature: first.Signature}, "the older version's, by the key")
	s.wantVerdict(true, &kms.VerifyRequest{Version: sign.Version(1), Message: message, Signature: first.Signature}, "the older version's")
	s.mustSign(&kms.SignRequest{Version: sign.Version(1), Message: message}) // it is ENABLED
	for v, valid := range map[kms.VersionName]bool{mac.Version(1): true, mac.Version(2): false} {
		verdict, err := s.verifyMac(&kms.VerifyMacRequest{Version: v, Message: message, Mac: tag.Mac})
		wantOK(t, err, "VerifyMac")
		if verdict.Valid != valid {
			t.Fatalf("the tag of version 1 is %v for %s", verdict.Valid, v)
		}
	}
}

// Signatures, tags and decryptions are counted, and a version that was used is not revoked
// by accident.
func testUsageOfKeys(t *testing.T, s *suite) {
	message := []byte("m")
	sign, mac := s.mustCreateAlgorithm("sign", kms.AlgorithmECP256SHA256), s.mustCreateAlgorithm("mac", kms.AlgorithmHMACSHA256)
	if v := s.mustGetVersion(sign.Version(1)); !v.FirstUse.IsZero() || len(v.Usage) > 0 {
		t.Fatalf("a new version was used: %+v", v.Usage)
	}
	signed := s.mustSign(&kms.SignRequest{Key: sign, Message: message})
	results, err := s.batchSign(&kms.BatchSignRequest{Key: sign, Items: []kms.SignItem{{Message: message}, {Message: message}}})
	wantOK(t, err, "BatchSign")
	wantOK(t, results[1].Err, "BatchSign")
	s.wantVerdict(true, &kms.VerifyRequest{Key: sign, Message: message, Signature: signed.Signature}, "a signature")
	_, err = s.mac(&kms.GenerateMacRequest{Key: mac, Message: message})
	wantOK(t, err, "GenerateMac")
	for name, want := range map[kms.KeyName]map[kms.Action]uint64{
		sign: {kms.ActionSign: 1, kms.ActionBatchSign: 2, kms.ActionVerify: 1},
		mac:  {kms.ActionGenerateMac: 1},
	} {
		v := s.mustGetVersion(name.Version(1))
		if v.FirstUse.IsZero() {
			t.Fatalf("%s was used and has no time of it", name)
		}
		for _, u := range v.Usage {
			if want[u.Action] != u.Count {
				t.Errorf("%s: %s %d times, want %d", name, u.Action, u.Count, want[u.Action])
			}
			delete(want, u.Action)
		}
		if len(want) > 0 {
			t.Errorf("%s: not counted: %v", name, want)
		}
		_, err := s.revoke(name.Version(1), "leaked", false)
		wantError(t, err, kms.ErrDataLoss, "RevokeKeyVersion of a version in use")
	}
}
