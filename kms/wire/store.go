package wire

import (
	"fmt"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// MaxChunk is the most bytes of one chunk of a backup.
const MaxChunk = 1 << 20

// maxProblems is how much of a response the problems of a store may fill, in bytes: a
// store that was replaced as a whole has one for each row.
const maxProblems = 2 << 20

// EncodeStoreReport makes the message. Of more problems than a message holds, the last
// one says how many were left out.
func EncodeStoreReport(r *kms.StoreReport) *kmsv1.StoreReport {
	m := &kmsv1.StoreReport{
		StoreId:    r.StoreID,
		Revision:   uint64(r.Revision),
		SealKeyUid: encodeUID(r.SealKey),
		Spread:     encodeSpread(&r.Spread),
	}
	if len(r.Rows) > 0 {
		m.Rows = make(map[string]int64, len(r.Rows))
		for kind, n := range r.Rows {
			m.Rows[kind] = int64(n)
		}
	}
	left := maxProblems
	for i, problem := range r.Problems {
		problem = clip(problem, maxMessage)
		if left -= len(problem) + 8; left < 0 {
			m.Problems = append(m.Problems, fmt.Sprintf("and %d more", len(r.Problems)-i))
			break
		}
		m.Problems = append(m.Problems, problem)
	}
	return m
}

// DecodeStoreReport reads the report.
func DecodeStoreReport(m *kmsv1.StoreReport) (*kms.StoreReport, error) {
	r := response{}
	report := &kms.StoreReport{
		StoreID:  m.GetStoreId(),
		Revision: kms.Revision(m.GetRevision()),
		SealKey:  parsed(&r, m.GetSealKeyUid(), parseUID),
		Problems: m.GetProblems(),
		Spread:   decodeSpread(m.GetSpread()),
	}
	if len(m.GetRows()) > 0 {
		report.Rows = make(map[string]int, len(m.GetRows()))
		for kind, n := range m.GetRows() {
			report.Rows[kind] = int(n)
		}
	}
	return report, r.err
}

// EncodeVerifyStoreResponse makes the message.
func EncodeVerifyStoreResponse(r *kms.StoreReport) *kmsv1.VerifyStoreResponse {
	return &kmsv1.VerifyStoreResponse{Report: EncodeStoreReport(r)}
}

// DecodeVerifyStoreResponse reads the report.
func DecodeVerifyStoreResponse(m *kmsv1.VerifyStoreResponse) (*kms.StoreReport, error) {
	return DecodeStoreReport(m.GetReport())
}

// EncodeResealStoreRequest makes the message.
func EncodeResealStoreRequest(reason string) *kmsv1.ResealStoreRequest {
	return &kmsv1.ResealStoreRequest{Reason: reason}
}

// DecodeResealStoreRequest returns the reason.
func DecodeResealStoreRequest(m *kmsv1.ResealStoreRequest) string { return m.GetReason() }

// EncodeResealStoreResponse makes the message.
func EncodeResealStoreResponse(r *kms.StoreReport) *kmsv1.ResealStoreResponse {
	return &kmsv1.ResealStoreResponse{Report: EncodeStoreReport(r)}
}

// DecodeResealStoreResponse reads the report.
func DecodeResealStoreResponse(m *kmsv1.ResealStoreResponse) (*kms.StoreReport, error) {
	return DecodeStoreReport(m.GetReport())
}

// EncodeBackupChunk makes the message of a part of a backup that holds bytes.
func EncodeBackupChunk(chunk []byte) *kmsv1.BackupStoreResponse {
	return &kmsv1.BackupStoreResponse{Part: &kmsv1.BackupStoreResponse_Chunk{Chunk: chunk}}
}

// EncodeBackupReport makes the message of the last part of a backup.
func EncodeBackupReport(r *kms.StoreReport) *kmsv1.BackupStoreResponse {
	return &kmsv1.BackupStoreResponse{Part: &kmsv1.BackupStoreResponse_Report{Report: EncodeStoreReport(r)}}
}

// DecodeBackupPart reads a part of a backup: bytes, or the report, which is the last.
func DecodeBackupPart(m *kmsv1.BackupStoreResponse) (chunk []byte, report *kms.StoreReport, err error) {
	switch part := m.GetPart().(type) {
	case *kmsv1.BackupStoreResponse_Chunk:
		return part.Chunk, nil, nil
	case *kmsv1.BackupStoreResponse_Report:
		report, err = DecodeStoreReport(part.Report)
		return nil, report, err
	default:
		return nil, nil, fmt.Errorf("%w: a part of a backup that is neither bytes nor a report", ErrMalformedResponse)
	}
}

// EncodeRestoreOptions makes the message of the first part of a restoration: all of the
// request but the backup.
func EncodeRestoreOptions(r *kms.RestoreStoreRequest) *kmsv1.RestoreStoreRequest {
	return &kmsv1.RestoreStoreRequest{Part: &kmsv1.RestoreStoreRequest_Options_{
		Options: &kmsv1.RestoreStoreRequest_Options{Reason: r.Reason, AcceptRollback: r.AcceptRollback},
	}}
}

// EncodeRestoreChunk makes the message of a part that holds bytes of the backup.
func EncodeRestoreChunk(chunk []byte) *kmsv1.RestoreStoreRequest {
	return &kmsv1.RestoreStoreRequest{Part: &kmsv1.RestoreStoreRequest_Chunk{Chunk: chunk}}
}

// DecodeRestoreOptions reads the first part of a restoration. The backup is not in it.
func DecodeRestoreOptions(m *kmsv1.RestoreStoreRequest) (*kms.RestoreStoreRequest, error) {
	part, ok := m.GetPart().(*kmsv1.RestoreStoreRequest_Options_)
	if !ok {
		return nil, kms.Invalid(kms.Violation{Field: "options", Description: "is required as the first part"})
	}
	return &kms.RestoreStoreRequest{
		Reason: part.Options.GetReason(), AcceptRollback: part.Options.GetAcceptRollback(),
	}, nil
}

// DecodeRestoreChunk reads a later part.
func DecodeRestoreChunk(m *kmsv1.RestoreStoreRequest) ([]byte, error) {
	part, ok := m.GetPart().(*kmsv1.RestoreStoreRequest_Chunk)
	if !ok {
		return nil, kms.Invalid(kms.Violation{Field: "chunk", Description: "is required after the first part"})
	}
	return part.Chunk, nil
}

// EncodeRestoreStoreResponse makes the message.
func EncodeRestoreStoreResponse(r *kms.StoreReport) *kmsv1.RestoreStoreResponse {
	return &kmsv1.RestoreStoreResponse{Report: EncodeStoreReport(r)}
}

// DecodeRestoreStoreResponse reads the report.
func DecodeRestoreStoreResponse(m *kmsv1.RestoreStoreResponse) (*kms.StoreReport, error) {
	return DecodeStoreReport(m.GetReport())
}
