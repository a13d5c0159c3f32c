package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeSignRequest makes the message.
func EncodeSignRequest(r *kms.SignRequest) *kmsv1.SignRequest {
	return &kmsv1.SignRequest{
		Key:             encodeName(r.Key),
		KeyVersion:      encodeName(r.Version),
		Digest:          r.Digest,
		DigestHash:      hashes.encodeRequested(r.DigestHash),
		Message:         r.Message,
		SignatureFormat: signatureFormats.encodeRequested(r.Format),
	}
}

// DecodeSignRequest reads the request.
func DecodeSignRequest(m *kmsv1.SignRequest) (*kms.SignRequest, error) {
	d := decoder{}
	r := &kms.SignRequest{
		Key:        d.optionalKey("key", m.GetKey()),
		Version:    d.optionalVersion(m.GetKeyVersion()),
		Digest:     m.GetDigest(),
		DigestHash: hashes.strict(&d, "digest_hash", m.GetDigestHash()),
		Message:    m.GetMessage(),
		Format:     signatureFormats.strict(&d, "signature_format", m.GetSignatureFormat()),
	}
	return r, d.err()
}

// EncodeSignResponse makes the message.
func EncodeSignResponse(r *kms.SignResult) *kmsv1.SignResponse {
	return &kmsv1.SignResponse{
		Signature:  r.Signature,
		KeyVersion: encodeName(r.Version),
		Algorithm:  algorithms.encode(r.Algorithm),
	}
}

// DecodeSignResponse reads the signature and the version that made it.
func DecodeSignResponse(m *kmsv1.SignResponse) (*kms.SignResult, error) {
	r := response{}
	result := &kms.SignResult{
		Signature: m.GetSignature(),
		Version:   parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
		Algorithm: algorithms.lenient(m.GetAlgorithm()),
	}
	return result, r.err
}

// EncodeBatchSignRequest makes the message. An item's Invalid is not on the wire.
func EncodeBatchSignRequest(r *kms.BatchSignRequest) *kmsv1.BatchSignRequest {
	items := slab[kmsv1.BatchSignRequest_Item](len(r.Items))
	e := namedItemEncoder{}
	for i, m := range items {
		item := &r.Items[i]
		m.Key, m.KeyVersion = e.names(item.Key, item.Version)
		m.Digest, m.DigestHash, m.Message = item.Digest, hashes.encodeRequested(item.DigestHash), item.Message
	}
	return &kmsv1.BatchSignRequest{
		Parent:          encodeName(r.Parent),
		Key:             encodeName(r.Key),
		KeyVersion:      encodeName(r.Version),
		Items:           items,
		SignatureFormat: signatureFormats.encodeRequested(r.Format),
	}
}

// DecodeBatchSignRequest reads the request.
func DecodeBatchSignRequest(m *kmsv1.BatchSignRequest) (*kms.BatchSignRequest, error) {
	d := decoder{}
	if err := d.checkCount(len(m.GetItems())); err != nil {
		return nil, err
	}
	r := &kms.BatchSignRequest{
		Parent:  d.namespace("parent", m.GetParent()),
		Key:     d.optionalKey("key", m.GetKey()),
		Version: d.optionalVersion(m.GetKeyVersion()),
		Items:   make([]kms.SignItem, len(m.GetItems())),
		Format:  signatureFormats.strict(&d, "signature_format", m.GetSignatureFormat()),
	}
	items := namedItemDecoder{}
	for i, item := range m.GetItems() {
		to := &r.Items[i]
		to.Digest, to.Message = item.GetDigest(), item.GetMessage()
		to.Key, to.Version, to.Invalid = items.names(i, item.GetKey(), item.GetKeyVersion())
		hash, known := hashes.decode(item.GetDigestHash())
		if !known && to.Invalid == nil {
			to.Invalid = unknownItemValue(i, "digest_hash", int32(item.GetDigestHash()))
		}
		to.DigestHash = hash
	}
	return r, d.err()
}

// EncodeBatchSignResponse makes the message.
func EncodeBatchSignResponse(results []kms.SignResult, report Report) *kmsv1.BatchSignResponse {
	messages := slab[kmsv1.BatchSignResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.Signature, m.KeyVersionIndex = r.Signature, versions.index(r.Version)
		m.Algorithm, m.Status = algorithms.encode(r.Algorithm), statuses.encode(r.Err)
	}
	return &kmsv1.BatchSignResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeBatchSignResponse reads the results.
func DecodeBatchSignResponse(m *kmsv1.BatchSignResponse) ([]kms.SignResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.SignResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		results[i] = kms.SignResult{
			Signature: result.GetSignature(),
			Version:   r.version(versions, result.GetKeyVersionIndex(), result.GetStatus() != nil),
			Algorithm: algorithms.lenient(result.GetAlgorithm()),
			Err:       ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}
