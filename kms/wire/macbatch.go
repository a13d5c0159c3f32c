package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeBatchGenerateMacRequest makes the message. An item's Invalid is not on the wire.
func EncodeBatchGenerateMacRequest(r *kms.BatchGenerateMacRequest) *kmsv1.BatchGenerateMacRequest {
	items := slab[kmsv1.BatchGenerateMacRequest_Item](len(r.Items))
	e := namedItemEncoder{}
	for i, m := range items {
		item := &r.Items[i]
		m.Key, m.KeyVersion = e.names(item.Key, item.Version)
		m.Message = item.Message
	}
	return &kmsv1.BatchGenerateMacRequest{
		Parent: encodeName(r.Parent), Key: encodeName(r.Key), KeyVersion: encodeName(r.Version), Items: items,
	}
}

// DecodeBatchGenerateMacRequest reads the request.
func DecodeBatchGenerateMacRequest(m *kmsv1.BatchGenerateMacRequest) (*kms.BatchGenerateMacRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.BatchGenerateMacRequest{
		Parent:  d.namespace("parent", m.GetParent()),
		Key:     d.optionalKey("key", m.GetKey()),
		Version: d.optionalVersion(m.GetKeyVersion()),
		Items:   make([]kms.MacItem, len(m.GetItems())),
	}
	items := namedItemDecoder{}
	for i, item := range m.GetItems() {
		to := &r.Items[i]
		to.Message = item.GetMessage()
		to.Key, to.Version, to.Invalid = items.names(i, item.GetKey(), item.GetKeyVersion())
	}
	return r, d.err()
}

// EncodeBatchGenerateMacResponse makes the message.
func EncodeBatchGenerateMacResponse(results []kms.MacResult, report Report) *kmsv1.BatchGenerateMacResponse {
	messages := slab[kmsv1.BatchGenerateMacResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.Mac, m.KeyVersionIndex = r.Mac, versions.index(r.Version)
		m.Algorithm, m.Status = algorithms.encode(r.Algorithm), statuses.encode(r.Err)
	}
	return &kmsv1.BatchGenerateMacResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeBatchGenerateMacResponse reads the results.
func DecodeBatchGenerateMacResponse(m *kmsv1.BatchGenerateMacResponse) ([]kms.MacResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.MacResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		results[i] = kms.MacResult{
			Mac:       result.GetMac(),
			Version:   r.version(versions, result.GetKeyVersionIndex(), result.GetStatus() != nil),
			Algorithm: algorithms.lenient(result.GetAlgorithm()),
			Err:       ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}

// EncodeBatchVerifyMacRequest makes the message. An item's Invalid is not on the wire.
func EncodeBatchVerifyMacRequest(r *kms.BatchVerifyMacRequest) *kmsv1.BatchVerifyMacRequest {
	items := slab[kmsv1.BatchVerifyMacRequest_Item](len(r.Items))
	e := namedItemEncoder{}
	for i, m := range items {
		item := &r.Items[i]
		m.Key, m.KeyVersion = e.names(item.Key, item.Version)
		m.Message, m.Mac = item.Message, item.Mac
	}
	return &kmsv1.BatchVerifyMacRequest{
		Parent: encodeName(r.Parent), Key: encodeName(r.Key), KeyVersion: encodeName(r.Version), Items: items,
	}
}

// DecodeBatchVerifyMacRequest reads the request.
func DecodeBatchVerifyMacRequest(m *kmsv1.BatchVerifyMacRequest) (*kms.BatchVerifyMacRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.BatchVerifyMacRequest{
		Parent:  d.namespace("parent", m.GetParent()),
		Key:     d.optionalKey("key", m.GetKey()),
		Version: d.optionalVersion(m.GetKeyVersion()),
		Items:   make([]kms.MacItem, len(m.GetItems())),
	}
	items := namedItemDecoder{}
	for i, item := range m.GetItems() {
		to := &r.Items[i]
		to.Message, to.Mac = item.GetMessage(), item.GetMac()
		to.Key, to.Version, to.Invalid = items.names(i, item.GetKey(), item.GetKeyVersion())
	}
	return r, d.err()
}

// EncodeBatchVerifyMacResponse makes the message.
func EncodeBatchVerifyMacResponse(results []kms.VerifyMacResult, report Report) *kmsv1.BatchVerifyMacResponse {
	messages := slab[kmsv1.BatchVerifyMacResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.Valid, m.KeyVersionIndex = r.Valid, versions.index(r.Version)
		m.Algorithm, m.Status = algorithms.encode(r.Algorithm), statuses.encode(r.Err)
	}
	return &kmsv1.BatchVerifyMacResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeBatchVerifyMacResponse reads the results. A tag that could not be examined is not
// valid, whatever the message says.
func DecodeBatchVerifyMacResponse(m *kmsv1.BatchVerifyMacResponse) ([]kms.VerifyMacResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.VerifyMacResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		failed := result.GetStatus() != nil
		results[i] = kms.VerifyMacResult{
			Valid:     result.GetValid() && !failed,
			Version:   r.version(versions, result.GetKeyVersionIndex(), failed),
			Algorithm: algorithms.lenient(result.GetAlgorithm()),
			Err:       ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}
