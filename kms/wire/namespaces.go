package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeCreateNamespaceRequest makes the message.
func EncodeCreateNamespaceRequest(name kms.NamespaceName) *kmsv1.CreateNamespaceRequest {
	return &kmsv1.CreateNamespaceRequest{NamespaceId: name.ID()}
}

// DecodeCreateNamespaceRequest returns the name of the namespace to create.
func DecodeCreateNamespaceRequest(m *kmsv1.CreateNamespaceRequest) (kms.NamespaceName, error) {
	d := decoder{}
	name := named(&d, "namespace_id", m.GetNamespaceId(), true, kms.NewNamespaceName)
	return name, d.err()
}

// EncodeGetNamespaceRequest makes the message.
func EncodeGetNamespaceRequest(name kms.NamespaceName) *kmsv1.GetNamespaceRequest {
	return &kmsv1.GetNamespaceRequest{Name: encodeName(name)}
}

// DecodeGetNamespaceRequest returns the name of the namespace asked for.
func DecodeGetNamespaceRequest(m *kmsv1.GetNamespaceRequest) (kms.NamespaceName, error) {
	d := decoder{}
	name := d.namespace("name", m.GetName())
	return name, d.err()
}

// EncodeListNamespacesRequest makes the message.
func EncodeListNamespacesRequest(page kms.Page) *kmsv1.ListNamespacesRequest {
	return &kmsv1.ListNamespacesRequest{PageSize: encodeInt(page.Size), PageToken: page.Token}
}

// DecodeListNamespacesRequest returns the page asked for.
func DecodeListNamespacesRequest(m *kmsv1.ListNamespacesRequest) kms.Page {
	return kms.Page{Size: int(m.GetPageSize()), Token: m.GetPageToken()}
}

// EncodeListNamespacesResponse makes the message.
func EncodeListNamespacesResponse(list *kms.NamespaceList) *kmsv1.ListNamespacesResponse {
	return &kmsv1.ListNamespacesResponse{
		Namespaces:    each(list.Namespaces, EncodeNamespace),
		NextPageToken: list.NextToken,
	}
}

// DecodeListNamespacesResponse reads a page.
func DecodeListNamespacesResponse(m *kmsv1.ListNamespacesResponse) (*kms.NamespaceList, error) {
	namespaces, err := all(m.GetNamespaces(), DecodeNamespace)
	if err != nil {
		return nil, err
	}
	return &kms.NamespaceList{Namespaces: namespaces, NextToken: m.GetNextPageToken()}, nil
}
