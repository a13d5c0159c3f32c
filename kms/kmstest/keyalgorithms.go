package kmstest

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// algorithms are those of a purpose that the suite makes keys of: of RSA only those with the
// smallest modulus, as a token takes seconds to make others.
func algorithms(p kms.Purpose) []kms.Algorithm {
	var list []kms.Algorithm
	for _, a := range kms.Algorithms() {
		if a.Purpose() == p && a.OutputSize() <= 256 {
			list = append(list, a)
		}
	}
	return list
}

// supported makes a key of each algorithm of a purpose that the token supports, and runs the
// test with it. One at least it must support.
func (s *suite) supported(p kms.Purpose, test func(a kms.Algorithm, name kms.KeyName)) {
	s.Helper()
	tested := 0
	for _, a := range algorithms(p) {
		name := s.key(strings.ToLower(a.String()))
		_, err := s.createAlgorithm(name, a)
		if errors.Is(err, kms.ErrUnsupported) {
			continue
		}
		wantOK(s, err, "CreateKey of "+a.String())
		test(a, name)
		tested++
	}
	if tested == 0 {
		s.Fatalf("the token supports no algorithm for %s", p)
	}
}

func (s *suite) createAlgorithm(name kms.KeyName, a kms.Algorithm) (*kms.KeyInfo, error) {
	return s.Admin.API.CreateKey(s.ctx, s.Admin.Principal, &kms.CreateKeyRequest{Name: name, Algorithm: a})
}

func (s *suite) mustCreateAlgorithm(id string, a kms.Algorithm) kms.KeyName {
	s.Helper()
	name := s.key(id)
	_, err := s.createAlgorithm(name, a)
	wantOK(s, err, "CreateKey of "+a.String())
	return name
}

func testAlgorithms(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	for id, test := range map[string]struct {
		purpose kms.Purpose
		asked   kms.Algorithm
		want    kms.Algorithm
	}{
		"sign":      {kms.PurposeAsymmetricSign, 0, kms.AlgorithmECP256SHA256},
		"mac":       {kms.PurposeMAC, 0, kms.AlgorithmHMACSHA256},
		"encrypt":   {kms.PurposeEncryptDecrypt, 0, kms.AlgorithmAES256},
		"algorithm": {0, kms.AlgorithmECP384SHA384, kms.AlgorithmECP384SHA384},
		"both":      {kms.PurposeMAC, kms.AlgorithmHMACSHA512, kms.AlgorithmHMACSHA512},
	} {
		made, err := api.CreateKey(s.ctx, admin, &kms.CreateKeyRequest{Name: s.key(id), Purpose: test.purpose, Algorithm: test.asked})
		wantOK(t, err, "CreateKey "+id)
		if made.Algorithm != test.want || made.Purpose != test.want.Purpose() || (made.Profile == 0) != (made.Purpose != kms.PurposeEncryptDecrypt) {
			t.Fatalf("%s: %s, %s, %s", id, made.Purpose, made.Algorithm, made.Profile)
		}
		got, err := api.GetKey(s.ctx, admin, s.key(id))
		wantOK(t, err, "GetKey "+id)
		if got.Algorithm != made.Algorithm || got.Purpose != made.Purpose {
			t.Fatalf("%s: GetKey returned %s, %s", id, got.Purpose, got.Algorithm)
		}
	}
	for doing, test := range map[string]struct {
		request kms.CreateKeyRequest
		field   string
	}{
		"no algorithm":                  {kms.CreateKeyRequest{Purpose: kms.PurposeAsymmetricDecrypt}, "key.algorithm"},
		"the algorithm of another":      {kms.CreateKeyRequest{Purpose: kms.PurposeMAC, Algorithm: kms.AlgorithmEd25519}, "key.algorithm"},
		"signing with AES":              {kms.CreateKeyRequest{Purpose: kms.PurposeAsymmetricSign, Algorithm: kms.AlgorithmAES256}, "key.algorithm"},
		"decryption with a signing key": {kms.CreateKeyRequest{Purpose: kms.PurposeAsymmetricDecrypt, Algorithm: kms.AlgorithmRSA2048PSSSHA256}, "key.algorithm"},
		"a signing key with a profile":  {kms.CreateKeyRequest{Algorithm: kms.AlgorithmEd25519, Profile: kms.ProfileStrict}, "key.protection_profile"},
		"a MAC key with a profile":      {kms.CreateKeyRequest{Purpose: kms.PurposeMAC, Profile: kms.ProfileDerived}, "key.protection_profile"},
	} {
		test.request.Name = s.key("refused")
		_, err := api.CreateKey(s.ctx, admin, &test.request)
		wantViolation(t, err, test.field, doing)
	}
	_, err := api.GetKey(s.ctx, admin, s.key("refused"))
	wantError(t, err, kms.ErrKeyNotFound, "a key that was refused")
}

// What a token cannot serve is refused when the key is made, and leaves nothing.
func testUnsupportedAlgorithms(t *testing.T, s *suite) {
	refused := 0
	for _, p := range kms.Purposes() {
		for _, a := range algorithms(p) {
			name := s.key("k-" + strings.ToLower(a.String()))
			_, err := s.createAlgorithm(name, a)
			if err == nil {
				continue
			}
			refused++
			e := wantRefusal(t, err, kms.ErrUnsupported, "CreateKey of "+a.String())
			if !strings.Contains(e.Error(), a.String()) {
				t.Errorf("the refusal does not name %s: %v", a, e)
			}
			_, err = s.Admin.API.GetKey(s.ctx, s.Admin.Principal, name)
			wantError(t, err, kms.ErrKeyNotFound, "a key that was refused")
		}
	}
	t.Logf("%d algorithms are not supported", refused)
}

// A version tells its algorithm, where its key comes from, and what is reported of it.
func testProvenance(t *testing.T, s *suite) {
	for _, name := range []kms.KeyName{
		s.mustCreate("encrypt", kms.ProfileDerived),
		s.mustCreateAlgorithm("sign", kms.AlgorithmECP256SHA256),
		s.mustCreateAlgorithm("mac", kms.AlgorithmHMACSHA256),
	} {
		key, err := s.Admin.API.GetKey(s.ctx, s.Admin.Principal, name)
		wantOK(t, err, "GetKey")
		v := s.mustGetVersion(name.Version(1))
		if v.Algorithm != key.Algorithm || v.Imported {
			t.Fatalf("%s: algorithm %s, imported %v", name, v.Algorithm, v.Imported)
		}
		if v.Host == nil || v.Host.Problem != "" || !v.Host.Usable {
			t.Fatalf("%s: the host reports %+v", name, v.Host)
		}
		for what, a := range map[string]kms.ObjectAttributes{"recorded": v.Attributes, "reported": v.Host.Attributes} {
			if a.Local == hsm.ReportedFalse || a.Sensitive == hsm.ReportedFalse || a.AlwaysSensitive == hsm.ReportedFalse ||
				a.Extractable == hsm.ReportedTrue || a.NeverExtractable == hsm.ReportedFalse || a.Private == hsm.ReportedFalse {
				t.Errorf("%s: %s attributes %+v", name, what, a)
			}
			if a.Sensitive == hsm.NotReported || a.Extractable == hsm.NotReported {
				t.Errorf("%s: the %s attributes say nothing: %+v", name, what, a)
			}
		}
		list, err := s.Admin.API.ListKeyVersions(s.ctx, s.Admin.Principal, name, kms.Page{})
		wantOK(t, err, "ListKeyVersions")
		if list.Versions[0].Algorithm != key.Algorithm || list.Versions[0].Host != nil {
			t.Fatalf("%s is listed as %+v", name, list.Versions[0])
		}
	}
}
