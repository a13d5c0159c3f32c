package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func (a api) Diagnose(ctx context.Context, _ kms.Principal) ([]kms.Finding, error) {
	response, err := a.c.system.Diagnose(ctx, &kmsv1.DiagnoseRequest{})
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	return wire.DecodeDiagnoseResponse(response).Findings, nil
}

func (a api) ListReplicas(ctx context.Context, _ kms.Principal) ([]*kms.ReplicaInfo, error) {
	response, err := a.c.system.ListReplicas(ctx, &kmsv1.ListReplicasRequest{})
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	return wire.DecodeListReplicasResponse(response), nil
}

func (a api) VerifyStore(ctx context.Context, _ kms.Principal) (*kms.StoreReport, error) {
	return call(ctx, a.c.system.VerifyStore, &kmsv1.VerifyStoreRequest{}, wire.DecodeVerifyStoreResponse)
}

func (a api) ResealStore(ctx context.Context, _ kms.Principal, reason string) (*kms.StoreReport, error) {
	return call(ctx, a.c.system.ResealStore, wire.EncodeResealStoreRequest(reason), wire.DecodeResealStoreResponse)
}

func (a api) ListOrphans(ctx context.Context, _ kms.Principal) ([]*kms.OrphanInfo, error) {
	return call(ctx, a.c.system.ListOrphans, &kmsv1.ListOrphansRequest{}, wire.DecodeListOrphansResponse)
}

func (a api) ScheduleOrphanDestruction(ctx context.Context, _ kms.Principal, r *kms.OrphanDestructionRequest,
) ([]*kms.OrphanInfo, error) {
	return call(ctx, a.c.system.ScheduleOrphanDestruction, wire.EncodeScheduleOrphanDestructionRequest(r),
		wire.DecodeScheduleOrphanDestructionResponse)
}

// BackupStore writes the backup as it comes: after an error, what w holds is no backup.
// The timeout of the client does not apply to it; ctx does, and the service has a deadline
// of its own.
func (a api) BackupStore(ctx context.Context, _ kms.Principal, w io.Writer) (*kms.StoreReport, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream if w fails
	defer cancel()
	stream, err := a.c.system.BackupStore(ctx, &kmsv1.BackupStoreRequest{})
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	var report *kms.StoreReport
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF) && report == nil:
			return nil, fmt.Errorf("%w: a backup without an end", wire.ErrMalformedResponse)
		case errors.Is(err, io.EOF):
			return report, nil
		case err != nil:
			return nil, wire.FromStatus(err)
		case report != nil:
			return nil, fmt.Errorf("%w: a backup goes on after its end", wire.ErrMalformedResponse)
		}
		var chunk []byte
		if chunk, report, err = wire.DecodeBackupPart(part); err != nil {
			return nil, err
		}
		if _, err := w.Write(chunk); err != nil {
			return nil, err
		}
	}
}

// RestoreStore sends the backup as it is read. The timeout of the client does not apply to
// it, as for BackupStore.
func (a api) RestoreStore(ctx context.Context, _ kms.Principal, r *kms.RestoreStoreRequest) (*kms.StoreReport, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream if reading fails: what was sent is not restored then
	defer cancel()
	stream, err := a.c.system.RestoreStore(ctx)
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	if err := sendBackup(stream.Send, r); err != nil {
		return nil, err
	}
	response, err := stream.CloseAndRecv()
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	return wire.DecodeRestoreStoreResponse(response)
}

// sendBackup sends options and chunks until all are sent, or the service has heard enough:
// its answer then says why.
func sendBackup(send func(*kmsv1.RestoreStoreRequest) error, r *kms.RestoreStoreRequest) error {
	part := wire.EncodeRestoreOptions(r)
	chunk := make([]byte, wire.MaxChunk)
	for {
		if err := send(part); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return wire.FromStatus(err)
		}
		if r.Backup == nil {
			return nil
		}
		n, err := io.ReadFull(r.Backup, chunk)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		if n == 0 {
			return nil
		}
		part = wire.EncodeRestoreChunk(chunk[:n])
	}
}
