package kmstest

import (
	"crypto"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func (s *suite) batchSign(r *kms.BatchSignRequest) ([]kms.SignResult, error) {
	r.Parent = s.namespace(kms.DefaultNamespace)
	return s.Admin.API.BatchSign(s.ctx, s.Admin.Principal, r)
}

// A batch signs with many keys and versions, and a bad item fails alone.
func testBatchSign(t *testing.T, s *suite) {
	ec := s.mustCreateAlgorithm("ec", kms.AlgorithmECP256SHA256)
	p384 := s.mustCreateAlgorithm("p384", kms.AlgorithmECP384SHA384)
	aes := s.mustCreate("aes", kms.ProfileDerived)
	_, err := s.rotate(&kms.RotateKeyRequest{Name: ec})
	wantOK(t, err, "RotateKey")
	digest := digestOf(kms.AlgorithmECP256SHA256, []byte("m"))
	items := []kms.SignItem{
		{Message: []byte("m")},
		{Digest: digest},
		{Digest: digest, DigestHash: crypto.SHA256},
		{Version: ec.Version(1), Message: []byte("m")},
		{Key: p384, Message: []byte("m")},
		{Key: ec, Message: []byte("m")},
		{Digest: digest[:31]},
		{Key: p384, Digest: digest, DigestHash: crypto.SHA256},
		{},
		{Key: aes, Message: []byte("m")},
		{Key: s.key("absent"), Message: []byte("m")},
		{Version: ec.Version(3), Message: []byte("m")},
		{Key: ec, Version: ec.Version(1), Message: []byte("m")},
		{Message: make([]byte, kms.MaxMessage+1)},
	}
	wantErrors := map[int]error{
		6: kms.ErrDigestLength, 7: kms.ErrHashMismatch, 8: kms.ErrInvalidRequest, 9: kms.ErrPurpose, 10: kms.ErrKeyNotFound,
		11: kms.ErrVersionNotFound, 12: kms.ErrInvalidRequest, 13: kms.ErrLimitExceeded,
	}
	wantVersions := []kms.VersionName{ec.Version(2), ec.Version(2), ec.Version(2), ec.Version(1), p384.Version(1), ec.Version(2)}
	for _, format := range []kms.SignatureFormat{0, kms.SignatureDER, kms.SignatureRaw} {
		results, err := s.batchSign(&kms.BatchSignRequest{Key: ec, Items: items, Format: format})
		wantOK(t, err, "BatchSign")
		if len(results) != len(items) {
			t.Fatalf("%d results", len(results))
		}
		for i, r := range results {
			doing := fmt.Sprintf("item %d", i)
			if want := wantErrors[i]; want != nil {
				wantError(t, r.Err, want, doing)
				if r.Signature != nil || r.Algorithm != 0 {
					t.Fatalf("%s failed and has %+v", doing, r)
				}
				continue
			}
			wantOK(t, r.Err, doing)
			if r.Version != wantVersions[i] {
				t.Fatalf("%s was signed by %s", doing, r.Version)
			}
			s.wantVerdict(true, &kms.VerifyRequest{Version: r.Version, Message: []byte("m"), Signature: r.Signature, Format: format}, doing)
		}
	}
	// One version for all.
	results, err := s.batchSign(&kms.BatchSignRequest{Version: ec.Version(1), Items: []kms.SignItem{{Digest: digest}, {Key: ec, Digest: digest}}})
	wantOK(t, err, "BatchSign by a version")
	if results[0].Version != ec.Version(1) || results[1].Version != ec.Version(2) {
		t.Fatalf("signed by %s and %s", results[0].Version, results[1].Version)
	}
}

func testBatchSignLimits(t *testing.T, s *suite) {
	ec := s.mustCreateAlgorithm("ec", kms.AlgorithmECP256SHA256)
	_, err := s.batchSign(&kms.BatchSignRequest{Key: ec})
	wantViolation(t, err, "items", "BatchSign of nothing")
	_, err = s.batchSign(&kms.BatchSignRequest{Key: ec, Items: make([]kms.SignItem, kms.MaxItems+1)})
	wantError(t, err, kms.ErrLimitExceeded, "BatchSign of too many")
	_, err = s.batchSign(&kms.BatchSignRequest{Key: ec, Version: ec.Version(1), Items: make([]kms.SignItem, 1)})
	wantViolation(t, err, "key_version", "BatchSign with two names")
	_, err = s.Admin.API.BatchSign(s.ctx, s.Admin.Principal, &kms.BatchSignRequest{Key: ec, Items: make([]kms.SignItem, 1)})
	wantViolation(t, err, "parent", "BatchSign without a namespace")
	messages := make([]kms.SignItem, kms.MaxBatchMessages/kms.MaxMessage, kms.MaxBatchMessages/kms.MaxMessage+1)
	for i := range messages {
		messages[i].Message = make([]byte, kms.MaxMessage)
	}
	_, err = s.batchSign(&kms.BatchSignRequest{Key: ec, Items: messages})
	wantOK(t, err, "BatchSign of the most bytes")
	_, err = s.batchSign(&kms.BatchSignRequest{Key: ec, Items: append(messages, kms.SignItem{Message: []byte("m")})})
	wantError(t, err, kms.ErrLimitExceeded, "BatchSign of a byte more")
}
