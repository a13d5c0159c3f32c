package bench

import (
	"bytes"
	"context"
	"fmt"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func unwrapRequest(items []item, pairs map[string]string) *kmsv1.UnwrapDataKeysRequest {
	request := &kmsv1.UnwrapDataKeysRequest{Parent: parent, EncryptionContext: pairs}
	for i := range items {
		request.Items = append(request.Items, &kmsv1.UnwrapDataKeysRequest_Item{WrappedDataKey: items[i].wrapped})
	}
	return request
}

func checkUnwrapped(answer *kmsv1.UnwrapDataKeysResponse, want int) error {
	results := answer.GetResults()
	return checkResults(results, want, func(i int) ([]byte, int) { return results[i].GetDataKey(), dataKeySize })
}

func prepareUnwrap(items []item, pairs map[string]string) call {
	return newCall(kmsv1.CryptoServiceClient.UnwrapDataKeys, unwrapRequest(items, pairs),
		func(answer *kmsv1.UnwrapDataKeysResponse) error { return checkUnwrapped(answer, len(items)) },
		func(_ context.Context, _ *connection, answer *kmsv1.UnwrapDataKeysResponse) error {
			return compareKeys(answer, items)
		})
}

// compareKeys compares unwrapped keys with those that were wrapped.
func compareKeys(answer *kmsv1.UnwrapDataKeysResponse, items []item) error {
	for i, r := range answer.GetResults() {
		if !bytes.Equal(r.GetDataKey(), items[i].dataKey) {
			return fmt.Errorf("%w: item %d was unwrapped to another key", ErrAnswer, i)
		}
	}
	return nil
}

func checkGenerated(answer *kmsv1.GenerateDataKeysResponse, want int) error {
	results := answer.GetResults()
	return checkResults(results, want, func(i int) ([]byte, int) { return results[i].GetDataKey(), dataKeySize })
}

func prepareGenerate(items []item, pairs map[string]string) call {
	request := &kmsv1.GenerateDataKeysRequest{
		Key: items[0].key, Count: int32(len(items)), Size: dataKeySize, EncryptionContext: pairs,
	}
	return newCall(kmsv1.CryptoServiceClient.GenerateDataKeys, request,
		func(answer *kmsv1.GenerateDataKeysResponse) error { return checkGenerated(answer, len(items)) },
		func(ctx context.Context, c *connection, answer *kmsv1.GenerateDataKeysResponse) error {
			made := make([]item, len(answer.GetResults()))
			for i, r := range answer.GetResults() {
				made[i] = item{dataKey: r.GetDataKey(), wrapped: r.GetWrappedDataKey()}
			}
			return prepareUnwrap(made, pairs).verify(ctx, c)
		})
}

func prepareRewrap(items []item, pairs map[string]string) call {
	request := &kmsv1.RewrapDataKeysRequest{Parent: parent, EncryptionContext: pairs}
	for i := range items {
		request.Items = append(request.Items, &kmsv1.RewrapDataKeysRequest_Item{WrappedDataKey: items[i].wrapped})
	}
	check := func(answer *kmsv1.RewrapDataKeysResponse) error {
		results := answer.GetResults()
		return checkResults(results, len(items), func(i int) ([]byte, int) {
			return results[i].GetWrappedDataKey(), len(items[i].wrapped)
		})
	}
	return newCall(kmsv1.CryptoServiceClient.RewrapDataKeys, request, check,
		func(ctx context.Context, c *connection, answer *kmsv1.RewrapDataKeysResponse) error {
			made := make([]item, len(items))
			for i, r := range answer.GetResults() {
				made[i] = item{dataKey: items[i].dataKey, wrapped: r.GetWrappedDataKey()}
			}
			return prepareUnwrap(made, pairs).verify(ctx, c)
		})
}
