package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeGenerateDataKeysResponse makes the message.
func EncodeGenerateDataKeysResponse(results []kms.DataKeyResult, report Report) *kmsv1.GenerateDataKeysResponse {
	messages := slab[kmsv1.GenerateDataKeysResponse_Result](len(results))
	statuses := statusEncoder{report: report}
	var version kms.VersionName // one for all: the request names one key
	for i := range results {
		m, r := messages[i], &results[i]
		m.DataKey, m.WrappedDataKey, m.Status = r.DataKey, r.Wrapped, statuses.encode(r.Err)
		if version.IsZero() {
			version = r.Version
		}
	}
	return &kmsv1.GenerateDataKeysResponse{Results: messages, KeyVersion: encodeName(version)}
}

// DecodeGenerateDataKeysResponse reads the results.
func DecodeGenerateDataKeysResponse(m *kmsv1.GenerateDataKeysResponse) ([]kms.DataKeyResult, error) {
	r := response{}
	version := parsed(&r, m.GetKeyVersion(), kms.ParseVersionName)
	results := make([]kms.DataKeyResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		results[i] = kms.DataKeyResult{
			DataKey: result.GetDataKey(),
			Wrapped: result.GetWrappedDataKey(),
			Version: version,
			Err:     ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}

// EncodeWrapDataKeysResponse makes the message.
func EncodeWrapDataKeysResponse(results []kms.DataKeyResult, report Report) *kmsv1.WrapDataKeysResponse {
	messages := slab[kmsv1.WrapDataKeysResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.WrappedDataKey, m.KeyVersionIndex = r.Wrapped, versions.index(r.Version)
		m.Status = statuses.encode(r.Err)
	}
	return &kmsv1.WrapDataKeysResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeWrapDataKeysResponse reads the results.
func DecodeWrapDataKeysResponse(m *kmsv1.WrapDataKeysResponse) ([]kms.DataKeyResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.DataKeyResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		results[i] = kms.DataKeyResult{
			Wrapped: result.GetWrappedDataKey(),
			Version: r.version(versions, result.GetKeyVersionIndex(), result.GetStatus() != nil),
			Err:     ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}

// EncodeUnwrapDataKeysResponse makes the message.
func EncodeUnwrapDataKeysResponse(results []kms.DataKeyResult, report Report) *kmsv1.UnwrapDataKeysResponse {
	messages := slab[kmsv1.UnwrapDataKeysResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.DataKey, m.KeyVersionIndex = r.DataKey, versions.index(r.Version)
		m.Status, m.RewrapStatus = statuses.encode(r.Err), statuses.encode(r.RewrapErr)
		if len(r.Wrapped) > 0 {
			m.RewrappedDataKey, m.RewrappedKeyVersionIndex = r.Wrapped, versions.index(r.Target)
		}
	}
	return &kmsv1.UnwrapDataKeysResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeUnwrapDataKeysResponse reads the results.
func DecodeUnwrapDataKeysResponse(m *kmsv1.UnwrapDataKeysResponse) ([]kms.DataKeyResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.DataKeyResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		results[i] = kms.DataKeyResult{
			DataKey:   result.GetDataKey(),
			Wrapped:   result.GetRewrappedDataKey(),
			Version:   r.version(versions, result.GetKeyVersionIndex(), result.GetStatus() != nil),
			RewrapErr: ItemError(result.GetRewrapStatus()),
			Err:       ItemError(result.GetStatus()),
		}
		if len(result.GetRewrappedDataKey()) > 0 {
			results[i].Target = r.version(versions, result.GetRewrappedKeyVersionIndex(), false)
		}
	}
	return results, r.err
}

// EncodeRewrapDataKeysResponse makes the message.
func EncodeRewrapDataKeysResponse(results []kms.DataKeyResult, report Report) *kmsv1.RewrapDataKeysResponse {
	messages := slab[kmsv1.RewrapDataKeysResponse_Result](len(results))
	statuses, versions := statusEncoder{report: report}, versionTable{}
	for i := range results {
		m, r := messages[i], &results[i]
		m.WrappedDataKey, m.Status = r.Wrapped, statuses.encode(r.Err)
		m.SourceKeyVersionIndex, m.KeyVersionIndex = versions.index(r.Version), versions.index(r.Target)
	}
	return &kmsv1.RewrapDataKeysResponse{Results: messages, KeyVersions: versions.names}
}

// DecodeRewrapDataKeysResponse reads the results.
func DecodeRewrapDataKeysResponse(m *kmsv1.RewrapDataKeysResponse) ([]kms.DataKeyResult, error) {
	r := response{}
	versions := r.versions(m.GetKeyVersions())
	results := make([]kms.DataKeyResult, len(m.GetResults()))
	for i, result := range m.GetResults() {
		failed := result.GetStatus() != nil
		results[i] = kms.DataKeyResult{
			Wrapped: result.GetWrappedDataKey(),
			Version: r.version(versions, result.GetSourceKeyVersionIndex(), failed),
			Target:  r.version(versions, result.GetKeyVersionIndex(), failed),
			Err:     ItemError(result.GetStatus()),
		}
	}
	return results, r.err
}
