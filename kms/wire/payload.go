package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeEncryptRequest makes the message.
func EncodeEncryptRequest(r *kms.EncryptRequest) *kmsv1.EncryptRequest {
	return &kmsv1.EncryptRequest{
		Key:                         encodeName(r.Key),
		Plaintext:                   r.Plaintext,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
	}
}

// DecodeEncryptRequest reads the request.
func DecodeEncryptRequest(m *kmsv1.EncryptRequest) (*kms.EncryptRequest, error) {
	d := decoder{}
	r := &kms.EncryptRequest{
		Key:       d.key("key", m.GetKey()),
		Plaintext: m.GetPlaintext(),
		Binding:   requestBinding(m),
	}
	return r, d.err()
}

// EncodeEncryptResponse makes the message.
func EncodeEncryptResponse(r *kms.EncryptResult) *kmsv1.EncryptResponse {
	return &kmsv1.EncryptResponse{Ciphertext: r.Ciphertext, KeyVersion: encodeName(r.Version)}
}

// DecodeEncryptResponse reads the ciphertext and the version that made it.
func DecodeEncryptResponse(m *kmsv1.EncryptResponse) (*kms.EncryptResult, error) {
	r := response{}
	result := &kms.EncryptResult{
		Ciphertext: m.GetCiphertext(),
		Version:    parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
	}
	return result, r.err
}

// EncodeDecryptRequest makes the message.
func EncodeDecryptRequest(r *kms.DecryptRequest) *kmsv1.DecryptRequest {
	return &kmsv1.DecryptRequest{
		Parent:                      encodeName(r.Parent),
		Ciphertext:                  r.Ciphertext,
		EncryptionContext:           r.Binding.Context,
		AdditionalAuthenticatedData: r.Binding.AAD,
		Key:                         encodeName(r.Key),
	}
}

// DecodeDecryptRequest reads the request.
func DecodeDecryptRequest(m *kmsv1.DecryptRequest) (*kms.DecryptRequest, error) {
	d := decoder{}
	r := &kms.DecryptRequest{
		Parent:     d.namespace("parent", m.GetParent()),
		Key:        d.optionalKey("key", m.GetKey()),
		Ciphertext: m.GetCiphertext(),
		Binding:    requestBinding(m),
	}
	return r, d.err()
}

// EncodeDecryptResponse makes the message.
func EncodeDecryptResponse(r *kms.DecryptResult) *kmsv1.DecryptResponse {
	return &kmsv1.DecryptResponse{Plaintext: r.Plaintext, KeyVersion: encodeName(r.Version)}
}

// DecodeDecryptResponse reads the plaintext and the version that had made its ciphertext.
func DecodeDecryptResponse(m *kmsv1.DecryptResponse) (*kms.DecryptResult, error) {
	r := response{}
	result := &kms.DecryptResult{
		Plaintext: m.GetPlaintext(),
		Version:   parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
	}
	return result, r.err
}

// EncodeReEncryptRequest makes the message.
func EncodeReEncryptRequest(r *kms.ReEncryptRequest) *kmsv1.ReEncryptRequest {
	m := &kmsv1.ReEncryptRequest{
		Parent:         encodeName(r.Parent),
		Ciphertext:     r.Ciphertext,
		SourceBinding:  encodeBinding(r.Source),
		SourceKey:      encodeName(r.SourceKey),
		DestinationKey: encodeName(r.Key),
	}
	if r.Destination != nil {
		m.DestinationBinding = encodeBinding(*r.Destination)
	}
	return m
}

// DecodeReEncryptRequest reads the request.
func DecodeReEncryptRequest(m *kmsv1.ReEncryptRequest) (*kms.ReEncryptRequest, error) {
	d := decoder{}
	r := &kms.ReEncryptRequest{
		Parent:     d.namespace("parent", m.GetParent()),
		SourceKey:  d.optionalKey("source_key", m.GetSourceKey()),
		Ciphertext: m.GetCiphertext(),
		Source:     requestBinding(m.GetSourceBinding()),
		Key:        d.optionalKey("destination_key", m.GetDestinationKey()),
	}
	if m.GetDestinationBinding() != nil {
		destination := requestBinding(m.GetDestinationBinding())
		r.Destination = &destination
	}
	return r, d.err()
}

// EncodeReEncryptResponse makes the message.
func EncodeReEncryptResponse(r *kms.ReEncryptResult) *kmsv1.ReEncryptResponse {
	return &kmsv1.ReEncryptResponse{
		Ciphertext:            r.Ciphertext,
		SourceKeyVersion:      encodeName(r.Source),
		DestinationKeyVersion: encodeName(r.Version),
	}
}

// DecodeReEncryptResponse reads the new ciphertext and both versions.
func DecodeReEncryptResponse(m *kmsv1.ReEncryptResponse) (*kms.ReEncryptResult, error) {
	r := response{}
	result := &kms.ReEncryptResult{
		Ciphertext: m.GetCiphertext(),
		Source:     parsed(&r, m.GetSourceKeyVersion(), kms.ParseVersionName),
		Version:    parsed(&r, m.GetDestinationKeyVersion(), kms.ParseVersionName),
	}
	return result, r.err
}

// EncodeGenerateRandomRequest makes the message.
func EncodeGenerateRandomRequest(size int) *kmsv1.GenerateRandomRequest {
	return &kmsv1.GenerateRandomRequest{Size: encodeInt(size)}
}

// DecodeGenerateRandomRequest returns the number of bytes asked for.
func DecodeGenerateRandomRequest(m *kmsv1.GenerateRandomRequest) int { return int(m.GetSize()) }

// EncodeGenerateRandomResponse makes the message.
func EncodeGenerateRandomResponse(data kms.Secret) *kmsv1.GenerateRandomResponse {
	return &kmsv1.GenerateRandomResponse{Data: data}
}

// DecodeGenerateRandomResponse returns the bytes.
func DecodeGenerateRandomResponse(m *kmsv1.GenerateRandomResponse) kms.Secret { return m.GetData() }

// bound is a message with an encryption context and additional authenticated data.
type bound interface {
	GetEncryptionContext() map[string]string
	GetAdditionalAuthenticatedData() []byte
}

func requestBinding(m bound) kms.Binding {
	return kms.Binding{Context: m.GetEncryptionContext(), AAD: m.GetAdditionalAuthenticatedData()}
}

func encodeBinding(b kms.Binding) *kmsv1.Binding {
	return &kmsv1.Binding{EncryptionContext: b.Context, AdditionalAuthenticatedData: b.AAD}
}
