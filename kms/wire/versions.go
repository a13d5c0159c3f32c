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
