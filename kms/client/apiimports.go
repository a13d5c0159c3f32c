package client

import (
	"context"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

func (a api) CreateImportJob(ctx context.Context, _ kms.Principal, r *kms.CreateImportJobRequest) (*kms.ImportJob, error) {
	return call(ctx, a.c.imports.CreateImportJob, wire.EncodeCreateImportJobRequest(r), wire.DecodeImportJob)
}

func (a api) GetImportJob(ctx context.Context, _ kms.Principal, name kms.ImportJobName) (*kms.ImportJob, error) {
	return call(ctx, a.c.imports.GetImportJob, wire.EncodeGetImportJobRequest(name), wire.DecodeImportJob)
}

func (a api) ListImportJobs(ctx context.Context, _ kms.Principal, parent kms.NamespaceName, page kms.Page,
) (*kms.ImportJobList, error) {
	return call(ctx, a.c.imports.ListImportJobs, wire.EncodeListImportJobsRequest(parent, page),
		wire.DecodeListImportJobsResponse)
}

func (a api) ImportKeyVersion(ctx context.Context, _ kms.Principal, r *kms.ImportKeyVersionRequest,
) (*kms.ImportKeyVersionResult, error) {
	return call(ctx, a.c.imports.ImportKeyVersion, wire.EncodeImportKeyVersionRequest(r),
		wire.DecodeImportKeyVersionResponse)
}
