package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeGenerateMacRequest makes the message.
func EncodeGenerateMacRequest(r *kms.GenerateMacRequest) *kmsv1.GenerateMacRequest {
	return &kmsv1.GenerateMacRequest{Key: encodeName(r.Key), KeyVersion: encodeName(r.Version), Message: r.Message}
}

// DecodeGenerateMacRequest reads the request.
func DecodeGenerateMacRequest(m *kmsv1.GenerateMacRequest) (*kms.GenerateMacRequest, error) {
	d := decoder{}
	r := &kms.GenerateMacRequest{
		Key:     d.optionalKey("key", m.GetKey()),
		Version: d.optionalVersion(m.GetKeyVersion()),
		Message: m.GetMessage(),
	}
	return r, d.err()
}

// EncodeGenerateMacResponse makes the message.
func EncodeGenerateMacResponse(r *kms.MacResult) *kmsv1.GenerateMacResponse {
	return &kmsv1.GenerateMacResponse{
		Mac: r.Mac, KeyVersion: encodeName(r.Version), Algorithm: algorithms.encode(r.Algorithm),
	}
}

// DecodeGenerateMacResponse reads the tag and the version that made it.
func DecodeGenerateMacResponse(m *kmsv1.GenerateMacResponse) (*kms.MacResult, error) {
	r := response{}
	result := &kms.MacResult{
		Mac:       m.GetMac(),
		Version:   parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
		Algorithm: algorithms.lenient(m.GetAlgorithm()),
	}
	return result, r.err
}

// EncodeVerifyMacRequest makes the message.
func EncodeVerifyMacRequest(r *kms.VerifyMacRequest) *kmsv1.VerifyMacRequest {
	return &kmsv1.VerifyMacRequest{
		Key: encodeName(r.Key), KeyVersion: encodeName(r.Version), Message: r.Message, Mac: r.Mac,
	}
}

// DecodeVerifyMacRequest reads the request.
func DecodeVerifyMacRequest(m *kmsv1.VerifyMacRequest) (*kms.VerifyMacRequest, error) {
	d := decoder{}
	r := &kms.VerifyMacRequest{
		Key:     d.optionalKey("key", m.GetKey()),
		Version: d.optionalVersion(m.GetKeyVersion()),
		Message: m.GetMessage(),
		Mac:     m.GetMac(),
	}
	return r, d.err()
}

// EncodeVerifyMacResponse makes the message.
func EncodeVerifyMacResponse(r *kms.VerifyMacResult) *kmsv1.VerifyMacResponse {
	return &kmsv1.VerifyMacResponse{
		Valid: r.Valid, KeyVersion: encodeName(r.Version), Algorithm: algorithms.encode(r.Algorithm),
	}
}

// DecodeVerifyMacResponse reads the verdict.
func DecodeVerifyMacResponse(m *kmsv1.VerifyMacResponse) (*kms.VerifyMacResult, error) {
	r := response{}
	result := &kms.VerifyMacResult{
		Valid:     m.GetValid(),
		Version:   parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
		Algorithm: algorithms.lenient(m.GetAlgorithm()),
	}
	return result, r.err
}
