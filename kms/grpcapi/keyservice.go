package grpcapi

import (
	"context"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// keyService implements KeyService. With what is embedded the compiler insists on every
// method of the contract.
type keyService struct {
	kmsv1.UnsafeKeyServiceServer
	api kms.API
}

func (s *keyService) CreateNamespace(ctx context.Context, m *kmsv1.CreateNamespaceRequest) (*kmsv1.Namespace, error) {
	return call(ctx, m, wire.DecodeCreateNamespaceRequest, s.api.CreateNamespace, wire.EncodeNamespace)
}

func (s *keyService) GetNamespace(ctx context.Context, m *kmsv1.GetNamespaceRequest) (*kmsv1.Namespace, error) {
	return call(ctx, m, wire.DecodeGetNamespaceRequest, s.api.GetNamespace, wire.EncodeNamespace)
}

func (s *keyService) ListNamespaces(ctx context.Context, m *kmsv1.ListNamespacesRequest) (*kmsv1.ListNamespacesResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	return list(wire.DecodeListNamespacesRequest(m), func(page kms.Page) (*kms.NamespaceList, error) {
		return s.api.ListNamespaces(ctx, p, page)
	}, wire.EncodeListNamespacesResponse)
}

func (s *keyService) CreateKey(ctx context.Context, m *kmsv1.CreateKeyRequest) (*kmsv1.Key, error) {
	return call(ctx, m, wire.DecodeCreateKeyRequest, s.api.CreateKey, wire.EncodeKey)
}

func (s *keyService) GetKey(ctx context.Context, m *kmsv1.GetKeyRequest) (*kmsv1.Key, error) {
	return call(ctx, m, wire.DecodeGetKeyRequest, s.api.GetKey, wire.EncodeKey)
}

func (s *keyService) ListKeys(ctx context.Context, m *kmsv1.ListKeysRequest) (*kmsv1.ListKeysResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	parent, page, err := wire.DecodeListKeysRequest(m)
	if err != nil {
		return nil, err
	}
	return list(page, func(page kms.Page) (*kms.KeyList, error) {
		return s.api.ListKeys(ctx, p, parent, page)
	}, wire.EncodeListKeysResponse)
}

func (s *keyService) UpdateKey(ctx context.Context, m *kmsv1.UpdateKeyRequest) (*kmsv1.Key, error) {
	return call(ctx, m, wire.DecodeUpdateKeyRequest, s.api.UpdateKey, wire.EncodeKey)
}

func (s *keyService) RotateKey(ctx context.Context, m *kmsv1.RotateKeyRequest) (*kmsv1.RotateKeyResponse, error) {
	return call(ctx, m, wire.DecodeRotateKeyRequest, s.api.RotateKey, wire.EncodeRotateKeyResponse)
}

func (s *keyService) SetPrimaryKeyVersion(ctx context.Context, m *kmsv1.SetPrimaryKeyVersionRequest,
) (*kmsv1.SetPrimaryKeyVersionResponse, error) {
	return call(ctx, m, wire.DecodeSetPrimaryKeyVersionRequest, s.api.SetPrimaryKeyVersion, wire.EncodeSetPrimaryKeyVersionResponse)
}

func (s *keyService) GetKeyVersion(ctx context.Context, m *kmsv1.GetKeyVersionRequest) (*kmsv1.KeyVersion, error) {
	return call(ctx, m, wire.DecodeGetKeyVersionRequest, s.api.GetKeyVersion, wire.EncodeKeyVersion)
}

func (s *keyService) ListKeyVersions(ctx context.Context, m *kmsv1.ListKeyVersionsRequest) (*kmsv1.ListKeyVersionsResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	parent, page, err := wire.DecodeListKeyVersionsRequest(m)
	if err != nil {
		return nil, err
	}
	return list(page, func(page kms.Page) (*kms.VersionList, error) {
		return s.api.ListKeyVersions(ctx, p, parent, page)
	}, wire.EncodeListKeyVersionsResponse)
}

func (s *keyService) EnableKeyVersion(ctx context.Context, m *kmsv1.EnableKeyVersionRequest) (*kmsv1.EnableKeyVersionResponse, error) {
	return callNamed(ctx, m, wire.DecodeEnableKeyVersionRequest, s.api.EnableKeyVersion, wire.EncodeEnableKeyVersionResponse)
}

func (s *keyService) DisableKeyVersion(ctx context.Context, m *kmsv1.DisableKeyVersionRequest) (*kmsv1.DisableKeyVersionResponse, error) {
	return callNamed(ctx, m, wire.DecodeDisableKeyVersionRequest, s.api.DisableKeyVersion, wire.EncodeDisableKeyVersionResponse)
}

func (s *keyService) RestrictKeyVersion(ctx context.Context, m *kmsv1.RestrictKeyVersionRequest) (*kmsv1.RestrictKeyVersionResponse, error) {
	return callNamed(ctx, m, wire.DecodeRestrictKeyVersionRequest, s.api.RestrictKeyVersion, wire.EncodeRestrictKeyVersionResponse)
}

func (s *keyService) RevokeKeyVersion(ctx context.Context, m *kmsv1.RevokeKeyVersionRequest) (*kmsv1.RevokeKeyVersionResponse, error) {
	return call(ctx, m, wire.DecodeRevokeKeyVersionRequest, s.api.RevokeKeyVersion, wire.EncodeRevokeKeyVersionResponse)
}

func (s *keyService) ScheduleKeyVersionDestruction(ctx context.Context, m *kmsv1.ScheduleKeyVersionDestructionRequest,
) (*kmsv1.ScheduleKeyVersionDestructionResponse, error) {
	return call(ctx, m, wire.DecodeScheduleKeyVersionDestructionRequest, s.api.ScheduleKeyVersionDestruction,
		wire.EncodeScheduleKeyVersionDestructionResponse)
}

func (s *keyService) RestoreKeyVersion(ctx context.Context, m *kmsv1.RestoreKeyVersionRequest) (*kmsv1.RestoreKeyVersionResponse, error) {
	return callNamed(ctx, m, wire.DecodeRestoreKeyVersionRequest, s.api.RestoreKeyVersion, wire.EncodeRestoreKeyVersionResponse)
}
