package echo

import (
	"context"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

const (
	// keyVersion is the version that every answer names.
	keyVersion = "namespaces/default/keys/bench-derived-0000/versions/1"
	// dataKeySize is the size of a data key, in bytes.
	dataKeySize = 32
	// overhead is by how much kmsd's ciphertexts are longer than their plaintexts: the
	// header of 20 bytes, the nonce of 24, the tag of 16 (kms/envelope/FORMAT.md).
	overhead = 60
)

// service answers at once. The other methods of CryptoService are not implemented.
//
// Answers share no memory: the codec overwrites what secrets are in them.
type service struct {
	kmsv1.UnimplementedCryptoServiceServer
}

// cut returns the next n bytes of a buffer.
func cut(buffer *[]byte, n int) []byte {
	n = min(n, len(*buffer))
	part := (*buffer)[:n:n]
	*buffer = (*buffer)[n:]
	return part
}

func (service) UnwrapDataKeys(_ context.Context, m *kmsv1.UnwrapDataKeysRequest) (*kmsv1.UnwrapDataKeysResponse, error) {
	n := len(m.GetItems())
	buffer := make([]byte, n*dataKeySize)
	results := make([]kmsv1.UnwrapDataKeysResponse_Result, n)
	answer := &kmsv1.UnwrapDataKeysResponse{
		Results:     make([]*kmsv1.UnwrapDataKeysResponse_Result, n),
		KeyVersions: []string{keyVersion},
	}
	for i := range results {
		results[i].DataKey = cut(&buffer, dataKeySize)
		answer.Results[i] = &results[i]
	}
	return answer, nil
}

func (service) GenerateDataKeys(_ context.Context, m *kmsv1.GenerateDataKeysRequest) (*kmsv1.GenerateDataKeysResponse, error) {
	n := max(int(m.GetCount()), 1)
	buffer := make([]byte, n*(2*dataKeySize+overhead))
	answer := &kmsv1.GenerateDataKeysResponse{
		Results:    make([]*kmsv1.GenerateDataKeysResponse_Result, n),
		KeyVersion: keyVersion,
	}
	for i := range answer.Results {
		answer.Results[i] = &kmsv1.GenerateDataKeysResponse_Result{
			DataKey: cut(&buffer, dataKeySize), WrappedDataKey: cut(&buffer, dataKeySize+overhead),
		}
	}
	return answer, nil
}

func (service) RewrapDataKeys(_ context.Context, m *kmsv1.RewrapDataKeysRequest) (*kmsv1.RewrapDataKeysResponse, error) {
	n := len(m.GetItems())
	buffer := make([]byte, n*(dataKeySize+overhead))
	answer := &kmsv1.RewrapDataKeysResponse{
		Results:     make([]*kmsv1.RewrapDataKeysResponse_Result, n),
		KeyVersions: []string{keyVersion},
	}
	for i := range answer.Results {
		answer.Results[i] = &kmsv1.RewrapDataKeysResponse_Result{WrappedDataKey: cut(&buffer, dataKeySize+overhead)}
	}
	return answer, nil
}

func (service) Encrypt(_ context.Context, m *kmsv1.EncryptRequest) (*kmsv1.EncryptResponse, error) {
	return &kmsv1.EncryptResponse{
		Ciphertext: make([]byte, len(m.GetPlaintext())+overhead), KeyVersion: keyVersion,
	}, nil
}

func (service) Decrypt(_ context.Context, m *kmsv1.DecryptRequest) (*kmsv1.DecryptResponse, error) {
	return &kmsv1.DecryptResponse{
		Plaintext: make([]byte, max(len(m.GetCiphertext())-overhead, 0)), KeyVersion: keyVersion,
	}, nil
}

func (service) BatchEncrypt(_ context.Context, m *kmsv1.BatchEncryptRequest) (*kmsv1.BatchEncryptResponse, error) {
	answer := &kmsv1.BatchEncryptResponse{
		Results:     make([]*kmsv1.BatchEncryptResponse_Result, len(m.GetItems())),
		KeyVersions: []string{keyVersion},
	}
	for i, item := range m.GetItems() {
		answer.Results[i] = &kmsv1.BatchEncryptResponse_Result{Ciphertext: make([]byte, len(item.GetPlaintext())+overhead)}
	}
	return answer, nil
}

func (service) BatchDecrypt(_ context.Context, m *kmsv1.BatchDecryptRequest) (*kmsv1.BatchDecryptResponse, error) {
	answer := &kmsv1.BatchDecryptResponse{
		Results:     make([]*kmsv1.BatchDecryptResponse_Result, len(m.GetItems())),
		KeyVersions: []string{keyVersion},
	}
	for i, item := range m.GetItems() {
		answer.Results[i] = &kmsv1.BatchDecryptResponse_Result{
			Plaintext: make([]byte, max(len(item.GetCiphertext())-overhead, 0)),
		}
	}
	return answer, nil
}
