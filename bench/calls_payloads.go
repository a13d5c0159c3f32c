package bench

import (
	"bytes"
	"context"
	"fmt"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func prepareEncrypt(items []item, pairs map[string]string) call {
	it := items[0]
	request := &kmsv1.EncryptRequest{Key: it.key, Plaintext: it.payload, EncryptionContext: pairs}
	return newCall(kmsv1.CryptoServiceClient.Encrypt, request,
		func(answer *kmsv1.EncryptResponse) error {
			return checkSize(answer.GetCiphertext(), len(it.ciphertext))
		},
		func(ctx context.Context, c *connection, answer *kmsv1.EncryptResponse) error {
			made := []item{{payload: it.payload, ciphertext: answer.GetCiphertext()}}
			return prepareDecrypt(made, pairs).verify(ctx, c)
		})
}

func prepareDecrypt(items []item, pairs map[string]string) call {
	it := items[0]
	request := &kmsv1.DecryptRequest{Parent: parent, Ciphertext: it.ciphertext, EncryptionContext: pairs}
	return newCall(kmsv1.CryptoServiceClient.Decrypt, request,
		func(answer *kmsv1.DecryptResponse) error { return checkSize(answer.GetPlaintext(), len(it.payload)) },
		func(_ context.Context, _ *connection, answer *kmsv1.DecryptResponse) error {
			if !bytes.Equal(answer.GetPlaintext(), it.payload) {
				return fmt.Errorf("%w: another plaintext", ErrAnswer)
			}
			return nil
		})
}

func checkSize(field []byte, want int) error {
	if len(field) != want {
		return fmt.Errorf("%w: %d bytes, want %d", ErrAnswer, len(field), want)
	}
	return nil
}

func checkEncrypted(answer *kmsv1.BatchEncryptResponse, want int) error {
	return checkResults(answer.GetResults(), want)
}

func prepareBatchEncrypt(items []item, pairs map[string]string) call {
	request := &kmsv1.BatchEncryptRequest{Parent: parent, EncryptionContext: pairs}
	for i := range items {
		request.Items = append(request.Items, &kmsv1.BatchEncryptRequest_Item{Plaintext: items[i].payload, Key: items[i].key})
	}
	check := func(answer *kmsv1.BatchEncryptResponse) error {
		results := answer.GetResults()
		return checkResults(results, len(items), func(i int) ([]byte, int) {
			return results[i].GetCiphertext(), len(items[i].ciphertext)
		})
	}
	return newCall(kmsv1.CryptoServiceClient.BatchEncrypt, request, check,
		func(ctx context.Context, c *connection, answer *kmsv1.BatchEncryptResponse) error {
			made := make([]item, len(items))
			for i, r := range answer.GetResults() {
				made[i] = item{payload: items[i].payload, ciphertext: r.GetCiphertext()}
			}
			return prepareBatchDecrypt(made, pairs).verify(ctx, c)
		})
}

func prepareBatchDecrypt(items []item, pairs map[string]string) call {
	request := &kmsv1.BatchDecryptRequest{Parent: parent, EncryptionContext: pairs}
	for i := range items {
		request.Items = append(request.Items, &kmsv1.BatchDecryptRequest_Item{Ciphertext: items[i].ciphertext})
	}
	check := func(answer *kmsv1.BatchDecryptResponse) error {
		results := answer.GetResults()
		return checkResults(results, len(items), func(i int) ([]byte, int) {
			return results[i].GetPlaintext(), len(items[i].payload)
		})
	}
	return newCall(kmsv1.CryptoServiceClient.BatchDecrypt, request, check,
		func(_ context.Context, _ *connection, answer *kmsv1.BatchDecryptResponse) error {
			for i, r := range answer.GetResults() {
				if !bytes.Equal(r.GetPlaintext(), items[i].payload) {
					return fmt.Errorf("%w: item %d has another plaintext", ErrAnswer, i)
				}
			}
			return nil
		})
}
