package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// A store in which every row is wrong still gives a report that fits into a message, and
// that says how much it leaves out.
func TestManyProblemsFit(t *testing.T) {
	const total = 100_000
	report := &kms.StoreReport{Problems: make([]string, total)}
	for i := range report.Problems {
		report.Problems[i] = fmt.Sprintf("%06d %s", i, strings.Repeat("x", 300))
	}
	m := EncodeVerifyStoreResponse(report)
	if size := proto.Size(m); size > MaxMessageBytes {
		t.Errorf("%d bytes", size)
	}
	told := m.GetReport().GetProblems()
	last := len(told) - 1
	if told[last] != fmt.Sprintf("and %d more", total-last) || !strings.HasPrefix(told[last-1], fmt.Sprintf("%06d ", last-1)) {
		t.Errorf("the end is %.20q, %.20q", told[last-1], told[last])
	}
}

// So does a rotation that restricts more versions than a message holds.
func TestManyRestrictedVersionsFit(t *testing.T) {
	result := &kms.RotateKeyResult{Version: aVersionInfo(), Key: aKeyInfo()}
	for range 20_000 {
		version := aVersionInfo()
		version.StateReason = strings.Repeat("r", kms.MaxReason)
		result.Restricted = append(result.Restricted, version)
	}
	m := EncodeRotateKeyResponse(result)
	if size := proto.Size(m); size > MaxMessageBytes || len(m.GetRestricted()) < 1000 {
		t.Errorf("%d bytes with %d versions", size, len(m.GetRestricted()))
	}
}

func TestPartsOfABackup(t *testing.T) {
	if _, _, err := DecodeBackupPart(&kmsv1.BackupStoreResponse{}); !errors.Is(err, ErrMalformedResponse) {
		t.Errorf("a part that is nothing: %v", err)
	}
	if chunk, report, err := DecodeBackupPart(EncodeBackupChunk(nil)); len(chunk) != 0 || report != nil || err != nil {
		t.Errorf("an empty chunk: %v, %v, %v", chunk, report, err)
	}
	full := EncodeBackupChunk(make([]byte, MaxChunk))
	if size := proto.Size(full); size > MaxMessageBytes {
		t.Errorf("a chunk has %d bytes", size)
	}
}

func TestNextRotation(t *testing.T) {
	key := aKeyInfo()
	if got := EncodeKey(key).GetNextRotationTime().AsTime(); !got.Equal(key.RotateTime.Add(key.RotationPeriod)) {
		t.Errorf("next rotation at %v", got)
	}
	key.RotationPeriod = 0
	if got := EncodeKey(key).GetNextRotationTime(); got != nil {
		t.Errorf("by hand only, but at %v", got)
	}
}
