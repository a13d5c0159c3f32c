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
	api     kms.API
	version string
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
