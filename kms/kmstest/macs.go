package kmstest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func (s *suite) mac(r *kms.GenerateMacRequest) (*kms.MacResult, error) {
	return s.Admin.API.GenerateMac(s.ctx, s.Admin.Principal, r)
}

func (s *suite) verifyMac(r *kms.VerifyMacRequest) (*kms.VerifyMacResult, error) {
	return s.Admin.API.VerifyMac(s.ctx, s.Admin.Principal, r)
}

func testMacs(t *testing.T, s *suite) {
	s.supported(kms.PurposeMAC, func(a kms.Algorithm, name kms.KeyName) {
		other := s.mustCreateAlgorithm("other-"+name.ID(), a)
		for _, size := range []int{1, 63, 64, 65, kms.MaxMessage} {
			message := bytes.Repeat([]byte{'m'}, size)
			made, err := s.mac(&kms.GenerateMacRequest{Key: name, Message: message})
			wantOK(t, err, "GenerateMac")
			if len(made.Mac) != a.OutputSize() || made.Version != name.Version(1) || made.Algorithm != a {
				t.Fatalf("%s: %+v", a, made)
			}
			again, err := s.mac(&kms.GenerateMacRequest{Version: name.Version(1), Message: message})
			wantOK(t, err, "GenerateMac by the version")
			theirs, err := s.mac(&kms.GenerateMacRequest{Key: other, Message: message})
			wantOK(t, err, "GenerateMac by another key")
			if !bytes.Equal(again.Mac, made.Mac) || bytes.Equal(theirs.Mac, made.Mac) {
				t.Fatalf("%s: the tag is not the key's", a)
			}
			for doing, test := range map[string]struct {
				message, mac []byte
				valid        bool
			}{
				"the tag":             {message, made.Mac, true},
				"another message":     {append(bytes.Clone(message[1:]), 'x'), made.Mac, false},
				"another key's":       {message, theirs.Mac, false},
				"a truncated one":     {message, made.Mac[:a.OutputSize()-1], false},
				"its first byte":      {message, made.Mac[:1], false},
				"a longer one":        {message, append(bytes.Clone(made.Mac), 0), false},
				"zeros":               {message, make([]byte, a.OutputSize()), false},
				"the most bytes":      {message, make([]byte, kms.MaxSignature), false},
				"the tag once more":   {message, made.Mac, true},
				"one of another size": {message, make([]byte, 20), false},
			} {
				v, err := s.verifyMac(&kms.VerifyMacRequest{Key: name, Message: test.message, Mac: test.mac})
				wantOK(t, err, "VerifyMac of "+doing)
				if v.Valid != test.valid || v.Version != name.Version(1) || v.Algorithm != a {
					t.Fatalf("%s: VerifyMac of %s: %+v", a, doing, v)
				}
			}
		}
		for doing, test := range map[string]struct {
			message, mac []byte
			want         error
		}{
			"an empty message":      {nil, []byte("m"), kms.ErrInvalidRequest},
			"a message over 64 KiB": {make([]byte, kms.MaxMessage+1), []byte("m"), kms.ErrLimitExceeded},
			"no tag":                {[]byte("m"), nil, kms.ErrInvalidRequest},
			"a tag that is too big": {[]byte("m"), make([]byte, kms.MaxSignature+1), kms.ErrLimitExceeded},
		} {
			_, err := s.verifyMac(&kms.VerifyMacRequest{Key: name, Message: test.message, Mac: test.mac})
			wantError(t, err, test.want, "VerifyMac of "+doing)
			if len(test.message) != 1 {
				_, err = s.mac(&kms.GenerateMacRequest{Key: name, Message: test.message})
				wantError(t, err, test.want, "GenerateMac of "+doing)
			}
		}
	})
}

func testMacBatches(t *testing.T, s *suite) {
	api, admin, parent := s.Admin.API, s.Admin.Principal, s.namespace(kms.DefaultNamespace)
	first, second := s.mustCreateAlgorithm("first", kms.AlgorithmHMACSHA256), s.mustCreateAlgorithm("second", kms.AlgorithmHMACSHA512)
	_, err := s.rotate(&kms.RotateKeyRequest{Name: first})
	wantOK(t, err, "RotateKey")
	items := []kms.MacItem{
		{Message: []byte("a")}, {Message: []byte("b")}, {Key: second, Message: []byte("a")}, {Version: first.Version(1), Message: []byte("a")},
		{}, {Key: s.key("absent"), Message: []byte("a")}, {Message: make([]byte, kms.MaxMessage+1)},
	}
	wantErrors := map[int]error{4: kms.ErrInvalidRequest, 5: kms.ErrKeyNotFound, 6: kms.ErrLimitExceeded}
	made, err := api.BatchGenerateMac(s.ctx, admin, &kms.BatchGenerateMacRequest{Parent: parent, Key: first, Items: items})
	wantOK(t, err, "BatchGenerateMac")
	versions := []kms.VersionName{first.Version(2), first.Version(2), second.Version(1), first.Version(1)}
	verified := make([]kms.MacItem, 0, len(items)+2)
	for i, r := range made {
		if want := wantErrors[i]; want != nil {
			wantError(t, r.Err, want, fmt.Sprintf("item %d", i))
			continue
		}
		wantOK(t, r.Err, fmt.Sprintf("item %d", i))
		if r.Version != versions[i] {
			t.Fatalf("item %d was made by %s", i, r.Version)
		}
		single, err := s.mac(&kms.GenerateMacRequest{Version: versions[i], Message: items[i].Message})
		wantOK(t, err, "GenerateMac")
		if !bytes.Equal(single.Mac, r.Mac) {
			t.Fatalf("item %d has another tag than it has alone", i)
		}
		verified = append(verified, kms.MacItem{Version: r.Version, Message: items[i].Message, Mac: r.Mac})
	}
	good := len(verified)
	verified = append(verified, kms.MacItem{Message: []byte("b"), Mac: made[0].Mac}, kms.MacItem{Message: []byte("a")},
		kms.MacItem{Key: s.mustCreate("aes", kms.ProfileDerived), Message: []byte("a"), Mac: []byte("m")})
	verdicts, err := api.BatchVerifyMac(s.ctx, admin, &kms.BatchVerifyMacRequest{Parent: parent, Key: first, Items: verified})
	wantOK(t, err, "BatchVerifyMac")
	for i, v := range verdicts[:good+1] {
		if v.Err != nil || v.Valid != (i < good) {
			t.Fatalf("verdict %d: %+v", i, v)
		}
	}
	wantError(t, verdicts[good+1].Err, kms.ErrInvalidRequest, "an item without a tag")
	wantError(t, verdicts[good+2].Err, kms.ErrPurpose, "an item of another purpose")
	if verdicts[good+1].Valid || verdicts[good+2].Valid {
		t.Fatal("what could not be examined is valid")
	}

	_, err = api.BatchGenerateMac(s.ctx, admin, &kms.BatchGenerateMacRequest{Parent: parent, Key: first})
	wantViolation(t, err, "items", "BatchGenerateMac of nothing")
	_, err = api.BatchVerifyMac(s.ctx, admin, &kms.BatchVerifyMacRequest{Parent: parent, Key: first, Items: make([]kms.MacItem, kms.MaxItems+1)})
	wantError(t, err, kms.ErrLimitExceeded, "BatchVerifyMac of too many")
	_, err = api.BatchVerifyMac(s.ctx, admin, &kms.BatchVerifyMacRequest{Key: first, Items: verified})
	wantViolation(t, err, "parent", "BatchVerifyMac without a namespace")
	most := make([]kms.MacItem, kms.MaxBatchMessages/kms.MaxMessage+1)
	for i := range most {
		most[i].Message = make([]byte, kms.MaxMessage)
	}
	_, err = api.BatchGenerateMac(s.ctx, admin, &kms.BatchGenerateMacRequest{Parent: parent, Key: first, Items: most})
	wantError(t, err, kms.ErrLimitExceeded, "BatchGenerateMac of too many bytes")
	_, err = api.BatchGenerateMac(s.ctx, admin, &kms.BatchGenerateMacRequest{Parent: parent, Key: first, Items: most[1:]})
	wantOK(t, err, "BatchGenerateMac of the most bytes")
}
