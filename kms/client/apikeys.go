package client

import (
	"context"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

func (a api) CreateNamespace(ctx context.Context, _ kms.Principal, name kms.NamespaceName) (*kms.Namespace, error) {
	return call(ctx, a.c.keys.CreateNamespace, wire.EncodeCreateNamespaceRequest(name), wire.DecodeNamespace)
}

func (a api) GetNamespace(ctx context.Context, _ kms.Principal, name kms.NamespaceName) (*kms.Namespace, error) {
	return call(ctx, a.c.keys.GetNamespace, wire.EncodeGetNamespaceRequest(name), wire.DecodeNamespace)
}

func (a api) ListNamespaces(ctx context.Context, _ kms.Principal, page kms.Page) (*kms.NamespaceList, error) {
	return call(ctx, a.c.keys.ListNamespaces, wire.EncodeListNamespacesRequest(page),
		wire.DecodeListNamespacesResponse)
}

func (a api) CreateKey(ctx context.Context, _ kms.Principal, r *kms.CreateKeyRequest) (*kms.KeyInfo, error) {
	return call(ctx, a.c.keys.CreateKey, wire.EncodeCreateKeyRequest(r), wire.DecodeKey)
}

func (a api) GetKey(ctx context.Context, _ kms.Principal, name kms.KeyName) (*kms.KeyInfo, error) {
	return call(ctx, a.c.keys.GetKey, wire.EncodeGetKeyRequest(name), wire.DecodeKey)
}

func (a api) ListKeys(ctx context.Context, _ kms.Principal, parent kms.NamespaceName, page kms.Page,
) (*kms.KeyList, error) {
	return call(ctx, a.c.keys.ListKeys, wire.EncodeListKeysRequest(parent, page), wire.DecodeListKeysResponse)
}

func (a api) UpdateKey(ctx context.Context, _ kms.Principal, r *kms.UpdateKeyRequest) (*kms.KeyInfo, error) {
	return call(ctx, a.c.keys.UpdateKey, wire.EncodeUpdateKeyRequest(r), wire.DecodeKey)
}

func (a api) RotateKey(ctx context.Context, _ kms.Principal, r *kms.RotateKeyRequest) (*kms.RotateKeyResult, error) {
	return call(ctx, a.c.keys.RotateKey, wire.EncodeRotateKeyRequest(r), wire.DecodeRotateKeyResponse)
}

func (a api) SetPrimaryKeyVersion(ctx context.Context, _ kms.Principal, r *kms.SetPrimaryRequest) (*kms.SetPrimaryResult, error) {
	return call(ctx, a.c.keys.SetPrimaryKeyVersion, wire.EncodeSetPrimaryKeyVersionRequest(r), wire.DecodeSetPrimaryKeyVersionResponse)
}

func (a api) GetKeyVersion(ctx context.Context, _ kms.Principal, name kms.VersionName) (*kms.VersionInfo, error) {
	return call(ctx, a.c.keys.GetKeyVersion, wire.EncodeGetKeyVersionRequest(name), wire.DecodeKeyVersion)
}

func (a api) ListKeyVersions(ctx context.Context, _ kms.Principal, parent kms.KeyName, page kms.Page,
) (*kms.VersionList, error) {
	return call(ctx, a.c.keys.ListKeyVersions, wire.EncodeListKeyVersionsRequest(parent, page),
		wire.DecodeListKeyVersionsResponse)
}

func (a api) EnableKeyVersion(ctx context.Context, _ kms.Principal, name kms.VersionName, reason string,
) (*kms.StateChange, error) {
	return call(ctx, a.c.keys.EnableKeyVersion, wire.EncodeEnableKeyVersionRequest(name, reason),
		wire.DecodeEnableKeyVersionResponse)
}

func (a api) DisableKeyVersion(ctx context.Context, _ kms.Principal, name kms.VersionName, reason string,
) (*kms.StateChange, error) {
	return call(ctx, a.c.keys.DisableKeyVersion, wire.EncodeDisableKeyVersionRequest(name, reason),
		wire.DecodeDisableKeyVersionResponse)
}

func (a api) RevokeKeyVersion(ctx context.Context, _ kms.Principal, r *kms.RevokeRequest) (*kms.StateChange, error) {
	return call(ctx, a.c.keys.RevokeKeyVersion, wire.EncodeRevokeKeyVersionRequest(r),
		wire.DecodeRevokeKeyVersionResponse)
}

func (a api) RestrictKeyVersion(ctx context.Context, _ kms.Principal, name kms.VersionName, reason string,
) (*kms.StateChange, error) {
	return call(ctx, a.c.keys.RestrictKeyVersion, wire.EncodeRestrictKeyVersionRequest(name, reason),
		wire.DecodeRestrictKeyVersionResponse)
}

func (a api) ScheduleKeyVersionDestruction(ctx context.Context, _ kms.Principal, r *kms.DestructionRequest,
) (*kms.StateChange, error) {
	return call(ctx, a.c.keys.ScheduleKeyVersionDestruction, wire.EncodeScheduleKeyVersionDestructionRequest(r),
		wire.DecodeScheduleKeyVersionDestructionResponse)
}

func (a api) RestoreKeyVersion(ctx context.Context, _ kms.Principal, name kms.VersionName, reason string,
) (*kms.StateChange, error) {
	return call(ctx, a.c.keys.RestoreKeyVersion, wire.EncodeRestoreKeyVersionRequest(name, reason),
		wire.DecodeRestoreKeyVersionResponse)
}
