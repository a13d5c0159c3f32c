package grpcapi

import (
	"context"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// importService implements ImportService.
type importService struct {
	kmsv1.UnsafeImportServiceServer
	api kms.API
}

func (s *importService) CreateImportJob(ctx context.Context, m *kmsv1.CreateImportJobRequest) (*kmsv1.ImportJob, error) {
	return call(ctx, m, wire.DecodeCreateImportJobRequest, s.api.CreateImportJob, wire.EncodeImportJob)
}

func (s *importService) GetImportJob(ctx context.Context, m *kmsv1.GetImportJobRequest) (*kmsv1.ImportJob, error) {
	return call(ctx, m, wire.DecodeGetImportJobRequest, s.api.GetImportJob, wire.EncodeImportJob)
}

func (s *importService) ListImportJobs(ctx context.Context, m *kmsv1.ListImportJobsRequest) (*kmsv1.ListImportJobsResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	parent, page, err := wire.DecodeListImportJobsRequest(m)
	if err != nil {
		return nil, err
	}
	return list(page, func(page kms.Page) (*kms.ImportJobList, error) {
		return s.api.ListImportJobs(ctx, p, parent, page)
	}, wire.EncodeListImportJobsResponse)
}

func (s *importService) ImportKeyVersion(ctx context.Context, m *kmsv1.ImportKeyVersionRequest) (*kmsv1.ImportKeyVersionResponse, error) {
	return call(ctx, m, wire.DecodeImportKeyVersionRequest, s.api.ImportKeyVersion, wire.EncodeImportKeyVersionResponse)
}
