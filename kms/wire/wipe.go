package wire

import (
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// Wipe overwrites with zeros the secrets that a message holds, and so those of the
// domain value that shares its bytes. It does nothing to a message without secrets.
func Wipe(message any) {
	switch m := message.(type) {
	case *kmsv1.EncryptRequest:
		clear(m.GetPlaintext())
	case *kmsv1.DecryptResponse:
		clear(m.GetPlaintext())
	case *kmsv1.BatchEncryptRequest:
		for _, item := range m.GetItems() {
			clear(item.GetPlaintext())
		}
	case *kmsv1.BatchDecryptResponse:
		for _, result := range m.GetResults() {
			clear(result.GetPlaintext())
		}
	case *kmsv1.WrapDataKeysRequest:
		for _, item := range m.GetItems() {
			clear(item.GetDataKey())
		}
	case *kmsv1.GenerateDataKeysResponse:
		for _, result := range m.GetResults() {
			clear(result.GetDataKey())
		}
	case *kmsv1.UnwrapDataKeysResponse:
		for _, result := range m.GetResults() {
			clear(result.GetDataKey())
		}
	case *kmsv1.AsymmetricDecryptResponse:
		clear(m.GetPlaintext())
	case *kmsv1.GenerateRandomResponse:
		clear(m.GetData())
	}
}
