package grpcapi

import (
	"context"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// systemService implements SystemService.
type systemService struct {
	kmsv1.UnsafeSystemServiceServer
	api             kms.API
	version         string
	maxRestoreBytes int64
}

func (s *systemService) Diagnose(ctx context.Context, _ *kmsv1.DiagnoseRequest) (*kmsv1.DiagnoseResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	findings, err := s.api.Diagnose(ctx, p)
	if err != nil {
		return nil, err
	}
	return wire.EncodeDiagnoseResponse(&wire.Diagnosis{
		ServerVersion: s.version,
		ServerTime:    time.Now(),
		Principal:     p.Name,
		Findings:      findings,
	}), nil
}

// WhoAmI needs no permission and leaves no record: it returns nothing but what the
// caller itself has proved, and reaches neither keys nor token.
func (*systemService) WhoAmI(ctx context.Context, _ *kmsv1.WhoAmIRequest) (*kmsv1.WhoAmIResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	return wire.EncodeWhoAmIResponse(p), nil
}

func (s *systemService) ListReplicas(ctx context.Context, _ *kmsv1.ListReplicasRequest) (*kmsv1.ListReplicasResponse, error) {
	return callEmpty(ctx, s.api.ListReplicas, wire.EncodeListReplicasResponse)
}

func (s *systemService) VerifyStore(ctx context.Context, _ *kmsv1.VerifyStoreRequest) (*kmsv1.VerifyStoreResponse, error) {
	return callEmpty(ctx, s.api.VerifyStore, wire.EncodeVerifyStoreResponse)
}

func (s *systemService) ResealStore(ctx context.Context, m *kmsv1.ResealStoreRequest) (*kmsv1.ResealStoreResponse, error) {
	return callEmpty(ctx, func(ctx context.Context, p kms.Principal) (*kms.StoreReport, error) {
		return s.api.ResealStore(ctx, p, wire.DecodeResealStoreRequest(m))
	}, wire.EncodeResealStoreResponse)
}

func (s *systemService) ListOrphans(ctx context.Context, _ *kmsv1.ListOrphansRequest) (*kmsv1.ListOrphansResponse, error) {
	return callEmpty(ctx, s.api.ListOrphans, wire.EncodeListOrphansResponse)
}

func (s *systemService) ScheduleOrphanDestruction(ctx context.Context, m *kmsv1.ScheduleOrphanDestructionRequest,
) (*kmsv1.ScheduleOrphanDestructionResponse, error) {
	return call(ctx, m, wire.DecodeScheduleOrphanDestructionRequest, s.api.ScheduleOrphanDestruction,
		wire.EncodeScheduleOrphanDestructionResponse)
}
