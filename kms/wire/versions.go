package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeGetKeyVersionRequest makes the message.
func EncodeGetKeyVersionRequest(name kms.VersionName) *kmsv1.GetKeyVersionRequest {
	return &kmsv1.GetKeyVersionRequest{Name: encodeName(name)}
}

// DecodeGetKeyVersionRequest returns the name of the version asked for.
func DecodeGetKeyVersionRequest(m *kmsv1.GetKeyVersionRequest) (kms.VersionName, error) {
	d := decoder{}
	name := d.version(m.GetName())
	return name, d.err()
}

// EncodeListKeyVersionsRequest makes the message.
func EncodeListKeyVersionsRequest(parent kms.KeyName, page kms.Page) *kmsv1.ListKeyVersionsRequest {
	return &kmsv1.ListKeyVersionsRequest{
		Parent:    encodeName(parent),
		PageSize:  encodeInt(page.Size),
		PageToken: page.Token,
	}
}

// DecodeListKeyVersionsRequest returns the key and the page asked for.
func DecodeListKeyVersionsRequest(m *kmsv1.ListKeyVersionsRequest) (kms.KeyName, kms.Page, error) {
	d := decoder{}
	parent := d.key("parent", m.GetParent())
	return parent, kms.Page{Size: int(m.GetPageSize()), Token: m.GetPageToken()}, d.err()
}

// EncodeListKeyVersionsResponse makes the message.
func EncodeListKeyVersionsResponse(list *kms.VersionList) *kmsv1.ListKeyVersionsResponse {
	return &kmsv1.ListKeyVersionsResponse{
		KeyVersions:   each(list.Versions, EncodeKeyVersion),
		NextPageToken: list.NextToken,
	}
}

// DecodeListKeyVersionsResponse reads a page.
func DecodeListKeyVersionsResponse(m *kmsv1.ListKeyVersionsResponse) (*kms.VersionList, error) {
	versions, err := all(m.GetKeyVersions(), DecodeKeyVersion)
	if err != nil {
		return nil, err
	}
	return &kms.VersionList{Versions: versions, NextToken: m.GetNextPageToken()}, nil
}

// EncodeEnableKeyVersionRequest makes the message.
func EncodeEnableKeyVersionRequest(name kms.VersionName, reason string) *kmsv1.EnableKeyVersionRequest {
	return &kmsv1.EnableKeyVersionRequest{Name: encodeName(name), Reason: reason}
}

// DecodeEnableKeyVersionRequest returns the name of the version, and the reason.
func DecodeEnableKeyVersionRequest(m *kmsv1.EnableKeyVersionRequest) (name kms.VersionName, reason string, err error) {
	d := decoder{}
	name = d.version(m.GetName())
	return name, m.GetReason(), d.err()
}

// EncodeEnableKeyVersionResponse makes the message.
func EncodeEnableKeyVersionResponse(c *kms.StateChange) *kmsv1.EnableKeyVersionResponse {
	return &kmsv1.EnableKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
	}
}

// DecodeEnableKeyVersionResponse reads the change.
func DecodeEnableKeyVersionResponse(m *kmsv1.EnableKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m.GetVersion(), m.GetTokenSwitch())
}

// EncodeDisableKeyVersionRequest makes the message.
func EncodeDisableKeyVersionRequest(name kms.VersionName, reason string) *kmsv1.DisableKeyVersionRequest {
	return &kmsv1.DisableKeyVersionRequest{Name: encodeName(name), Reason: reason}
}

// DecodeDisableKeyVersionRequest returns the name of the version, and the reason.
func DecodeDisableKeyVersionRequest(m *kmsv1.DisableKeyVersionRequest) (name kms.VersionName, reason string, err error) {
	d := decoder{}
	name = d.version(m.GetName())
	return name, m.GetReason(), d.err()
}

// EncodeDisableKeyVersionResponse makes the message.
func EncodeDisableKeyVersionResponse(c *kms.StateChange) *kmsv1.DisableKeyVersionResponse {
	return &kmsv1.DisableKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
	}
}

// DecodeDisableKeyVersionResponse reads the change.
func DecodeDisableKeyVersionResponse(m *kmsv1.DisableKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m.GetVersion(), m.GetTokenSwitch())
}

// EncodeRevokeKeyVersionRequest makes the message.
func EncodeRevokeKeyVersionRequest(r *kms.RevokeRequest) *kmsv1.RevokeKeyVersionRequest {
	return &kmsv1.RevokeKeyVersionRequest{
		Name:             encodeName(r.Name),
		Reason:           r.Reason,
		DataLossAccepted: r.DataLossAccepted,
	}
}

// DecodeRevokeKeyVersionRequest reads the request.
func DecodeRevokeKeyVersionRequest(m *kmsv1.RevokeKeyVersionRequest) (*kms.RevokeRequest, error) {
	d := decoder{}
	r := &kms.RevokeRequest{
		Name:             d.version(m.GetName()),
		Reason:           m.GetReason(),
		DataLossAccepted: m.GetDataLossAccepted(),
	}
	return r, d.err()
}

// EncodeRevokeKeyVersionResponse makes the message.
func EncodeRevokeKeyVersionResponse(c *kms.StateChange) *kmsv1.RevokeKeyVersionResponse {
	return &kmsv1.RevokeKeyVersionResponse{
		Version:     EncodeKeyVersion(c.Version),
		TokenSwitch: tokenSwitches.encode(c.Switch),
	}
}

// DecodeRevokeKeyVersionResponse reads the change.
func DecodeRevokeKeyVersionResponse(m *kmsv1.RevokeKeyVersionResponse) (*kms.StateChange, error) {
	return decodeStateChange(m.GetVersion(), m.GetTokenSwitch())
}

func decodeStateChange(m *kmsv1.KeyVersion, s kmsv1.TokenSwitch) (*kms.StateChange, error) {
	version, err := DecodeKeyVersion(m)
	if err != nil {
		return nil, err
	}
	return &kms.StateChange{Version: version, Switch: tokenSwitches.lenient(s)}, nil
}
