package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeBatchEncryptRequest makes the message. An item's Invalid is not on the wire.
func EncodeBatchEncryptRequest(r *kms.BatchEncryptRequest) *kmsv1.BatchEncryptRequest {
	items := slab[kmsv1.BatchEncryptRequest_Item](len(r.Items))
	e := itemEncoder{total: len(items)}
	for i, m := range items {
		item := &r.Items[i]
		m.Plaintext, m.Key, m.Binding = item.Plaintext, e.name(item.Key), e.binding(i, item.Binding)
	}
	return &kmsv1.BatchEncryptRequest{
		Parent:                      encodeName(r.Parent),
		Key:                         encodeName(r.Key),
		Items:                       items,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
	}
}

// DecodeBatchEncryptRequest reads the request.
func DecodeBatchEncryptRequest(m *kmsv1.BatchEncryptRequest) (*kms.BatchEncryptRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.BatchEncryptRequest{
		Parent:  d.namespace("parent", m.GetParent()),
		Key:     d.optionalKey("key", m.GetKey()),
		Items:   make([]kms.PayloadItem, len(m.GetItems())),
		Binding: requestBinding(m),
	}
	items := itemDecoder{total: len(r.Items)}
	for i, item := range m.GetItems() {
		r.Items[i].Plaintext = item.GetPlaintext()
		items.decode(payloadFields(&r.Items[i]), i, item.GetKey(), item.GetBinding())
	}
	return r, d.err()
}

// EncodeBatchDecryptRequest makes the message. An item's Invalid is not on the wire.
func EncodeBatchDecryptRequest(r *kms.BatchDecryptRequest) *kmsv1.BatchDecryptRequest {
	items := slab[kmsv1.BatchDecryptRequest_Item](len(r.Items))
	e := itemEncoder{total: len(items)}
	for i, m := range items {
		item := &r.Items[i]
		m.Ciphertext, m.Key, m.Binding = item.Ciphertext, e.name(item.Key), e.binding(i, item.Binding)
	}
	return &kmsv1.BatchDecryptRequest{
		Parent:                      encodeName(r.Parent),
		Key:                         encodeName(r.Key),
		Items:                       items,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
	}
}

// DecodeBatchDecryptRequest reads the request.
func DecodeBatchDecryptRequest(m *kmsv1.BatchDecryptRequest) (*kms.BatchDecryptRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.BatchDecryptRequest{
		Parent:  d.namespace("parent", m.GetParent()),
		Key:     d.optionalKey("key", m.GetKey()),
		Items:   make([]kms.PayloadItem, len(m.GetItems())),
		Binding: requestBinding(m),
	}
	items := itemDecoder{total: len(r.Items)}
	for i, item := range m.GetItems() {
		r.Items[i].Ciphertext = item.GetCiphertext()
		items.decode(payloadFields(&r.Items[i]), i, item.GetKey(), item.GetBinding())
	}
	return r, d.err()
}

// EncodeBatchEncryptResponse makes the message.
func EncodeBatchEncryptResponse(results []kms.PayloadResult, report Report) *kmsv1.BatchEncryptResponse {
	messages := slab[kmsv1.BatchEncryptResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.Ciphertext, m.KeyVersionIndex = r.Ciphertext, versions.index(r.Version)
		m.Status = statuses.encode(r.Err)
	}
	return &kmsv1.BatchEncryptResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeBatchEncryptResponse reads the results.
func DecodeBatchEncryptResponse(m *kmsv1.BatchEncryptResponse) ([]kms.PayloadResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.PayloadResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		results[i] = kms.PayloadResult{
			Ciphertext: result.GetCiphertext(),
			Version:    r.version(versions, result.GetKeyVersionIndex(), result.GetStatus() != nil),
			Err:        ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}

// EncodeBatchDecryptResponse makes the message.
func EncodeBatchDecryptResponse(results []kms.PayloadResult, report Report) *kmsv1.BatchDecryptResponse {
	messages := slab[kmsv1.BatchDecryptResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.Plaintext, m.KeyVersionIndex = r.Plaintext, versions.index(r.Version)
		m.Status = statuses.encode(r.Err)
	}
	return &kmsv1.BatchDecryptResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeBatchDecryptResponse reads the results.
func DecodeBatchDecryptResponse(m *kmsv1.BatchDecryptResponse) ([]kms.PayloadResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.PayloadResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		results[i] = kms.PayloadResult{
			Plaintext: result.GetPlaintext(),
			Version:   r.version(versions, result.GetKeyVersionIndex(), result.GetStatus() != nil),
			Err:       ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}

func payloadFields(item *kms.PayloadItem) itemFields {
	return itemFields{&item.Key, &item.Binding, &item.Invalid}
}
