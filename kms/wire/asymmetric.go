package wire

import (
	"hash/crc32"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeVerifyRequest makes the message.
func EncodeVerifyRequest(r *kms.VerifyRequest) *kmsv1.VerifyRequest {
	return &kmsv1.VerifyRequest{
		Key:             encodeName(r.Key),
		KeyVersion:      encodeName(r.Version),
		Digest:          r.Digest,
		DigestHash:      hashes.encodeRequested(r.DigestHash),
		Message:         r.Message,
		Signature:       r.Signature,
		SignatureFormat: signatureFormats.encodeRequested(r.Format),
	}
}

// DecodeVerifyRequest reads the request.
func DecodeVerifyRequest(m *kmsv1.VerifyRequest) (*kms.VerifyRequest, error) {
	d := decoder{}
	r := &kms.VerifyRequest{
		Key:        d.optionalKey("key", m.GetKey()),
		Version:    d.optionalVersion(m.GetKeyVersion()),
		Digest:     m.GetDigest(),
		DigestHash: hashes.strict(&d, "digest_hash", m.GetDigestHash()),
		Message:    m.GetMessage(),
		Signature:  m.GetSignature(),
		Format:     signatureFormats.strict(&d, "signature_format", m.GetSignatureFormat()),
	}
	return r, d.err()
}

// EncodeVerifyResponse makes the message.
func EncodeVerifyResponse(r *kms.VerifyResult) *kmsv1.VerifyResponse {
	return &kmsv1.VerifyResponse{
		Valid:      r.Valid,
		KeyVersion: encodeName(r.Version),
		State:      states.encode(r.State),
		Algorithm:  algorithms.encode(r.Algorithm),
	}
}

// DecodeVerifyResponse reads the verdict.
func DecodeVerifyResponse(m *kmsv1.VerifyResponse) (*kms.VerifyResult, error) {
	r := response{}
	result := &kms.VerifyResult{
		Valid:     m.GetValid(),
		Version:   parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
		State:     states.lenient(m.GetState()),
		Algorithm: algorithms.lenient(m.GetAlgorithm()),
	}
	return result, r.err
}

// EncodeGetPublicKeyRequest makes the message.
func EncodeGetPublicKeyRequest(r *kms.GetPublicKeyRequest) *kmsv1.GetPublicKeyRequest {
	return &kmsv1.GetPublicKeyRequest{
		Key:        encodeName(r.Key),
		KeyVersion: encodeName(r.Version),
		Format:     publicKeyFormats.encodeRequested(r.Format),
	}
}

// DecodeGetPublicKeyRequest reads the request.
func DecodeGetPublicKeyRequest(m *kmsv1.GetPublicKeyRequest) (*kms.GetPublicKeyRequest, error) {
	d := decoder{}
	r := &kms.GetPublicKeyRequest{
		Key:     d.optionalKey("key", m.GetKey()),
		Version: d.optionalVersion(m.GetKeyVersion()),
		Format:  publicKeyFormats.strict(&d, "format", m.GetFormat()),
	}
	return r, d.err()
}

// EncodeGetPublicKeyResponse makes the message.
func EncodeGetPublicKeyResponse(p *kms.PublicKey) *kmsv1.GetPublicKeyResponse {
	return &kmsv1.GetPublicKeyResponse{
		PublicKey:  p.Key,
		Format:     publicKeyFormats.encode(p.Format),
		Crc32C:     p.CRC32C,
		KeyVersion: encodeName(p.Version),
		State:      states.encode(p.State),
		Algorithm:  algorithms.encode(p.Algorithm),
	}
}

// DecodeGetPublicKeyResponse reads the public key, and checks that it is the one that the
// service has sent: whoever trusts a key that was damaged on the way refuses all good
// signatures.
func DecodeGetPublicKeyResponse(m *kmsv1.GetPublicKeyResponse) (*kms.PublicKey, error) {
	r := response{}
	p := &kms.PublicKey{
		Key:       m.GetPublicKey(),
		Format:    publicKeyFormats.lenient(m.GetFormat()),
		CRC32C:    m.GetCrc32C(),
		Version:   parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
		State:     states.lenient(m.GetState()),
		Algorithm: algorithms.lenient(m.GetAlgorithm()),
	}
	if sum := crc32.Checksum(p.Key, crc32.MakeTable(crc32.Castagnoli)); sum != p.CRC32C {
		r.refuse("the public key has the CRC32C %08x, and was sent as %08x", sum, p.CRC32C)
	}
	return p, r.err
}

// EncodeAsymmetricDecryptRequest makes the message.
func EncodeAsymmetricDecryptRequest(r *kms.AsymmetricDecryptRequest) *kmsv1.AsymmetricDecryptRequest {
	return &kmsv1.AsymmetricDecryptRequest{
		Key:        encodeName(r.Key),
		KeyVersion: encodeName(r.Version),
		Ciphertext: r.Ciphertext,
	}
}

// DecodeAsymmetricDecryptRequest reads the request.
func DecodeAsymmetricDecryptRequest(m *kmsv1.AsymmetricDecryptRequest) (*kms.AsymmetricDecryptRequest, error) {
	d := decoder{}
	r := &kms.AsymmetricDecryptRequest{
		Key:        d.optionalKey("key", m.GetKey()),
		Version:    d.optionalVersion(m.GetKeyVersion()),
		Ciphertext: m.GetCiphertext(),
	}
	return r, d.err()
}

// EncodeAsymmetricDecryptResponse makes the message.
func EncodeAsymmetricDecryptResponse(r *kms.AsymmetricDecryptResult) *kmsv1.AsymmetricDecryptResponse {
	return &kmsv1.AsymmetricDecryptResponse{
		Plaintext:  r.Plaintext,
		KeyVersion: encodeName(r.Version),
		Algorithm:  algorithms.encode(r.Algorithm),
	}
}

// DecodeAsymmetricDecryptResponse reads the plaintext and the version that decrypted it.
func DecodeAsymmetricDecryptResponse(m *kmsv1.AsymmetricDecryptResponse) (*kms.AsymmetricDecryptResult, error) {
	r := response{}
	result := &kms.AsymmetricDecryptResult{
		Plaintext: m.GetPlaintext(),
		Version:   parsed(&r, m.GetKeyVersion(), kms.ParseVersionName),
		Algorithm: algorithms.lenient(m.GetAlgorithm()),
	}
	return result, r.err
}
