package client

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// API is the service in domain terms: names are parsed, errors are [*kms.Error] and
// match the sentinels of package kms with errors.Is, or a context's error, or, when the
// service could not be reached, a gRPC status.
//
// The [kms.Principal] of each call is ignored: who the caller is, the server takes from
// the connection. Pass the zero value.
func (c *Client) API() kms.API { return api{c} }

type api struct{ c *Client }

// call makes one call of a stub and translates its answer.
func call[Request, Response, Result any](ctx context.Context,
	stub func(context.Context, Request, ...grpc.CallOption) (Response, error), request Request,
	decode func(Response) (Result, error),
) (Result, error) {
	response, err := stub(ctx, request)
	if err != nil {
		var none Result
		return none, wire.FromStatus(err)
	}
	return decode(response)
}

// callBatch is call for a batch, of which each item has a result.
func callBatch[Request, Response, Result any](ctx context.Context,
	stub func(context.Context, Request, ...grpc.CallOption) (Response, error), request Request,
	decode func(Response) ([]Result, error), items int,
) ([]Result, error) {
	results, err := call(ctx, stub, request, decode)
	if err == nil && len(results) != items {
		return nil, fmt.Errorf("%w: %d results for %d items", wire.ErrMalformedResponse, len(results), items)
	}
	return results, err
}

func (a api) Encrypt(ctx context.Context, _ kms.Principal, r *kms.EncryptRequest) (*kms.EncryptResult, error) {
	return call(ctx, a.c.crypto.Encrypt, wire.EncodeEncryptRequest(r), wire.DecodeEncryptResponse)
}

func (a api) Decrypt(ctx context.Context, _ kms.Principal, r *kms.DecryptRequest) (*kms.DecryptResult, error) {
	return call(ctx, a.c.crypto.Decrypt, wire.EncodeDecryptRequest(r), wire.DecodeDecryptResponse)
}

func (a api) ReEncrypt(ctx context.Context, _ kms.Principal, r *kms.ReEncryptRequest) (*kms.ReEncryptResult, error) {
	return call(ctx, a.c.crypto.ReEncrypt, wire.EncodeReEncryptRequest(r), wire.DecodeReEncryptResponse)
}

func (a api) BatchEncrypt(ctx context.Context, _ kms.Principal, r *kms.BatchEncryptRequest,
) ([]kms.PayloadResult, error) {
	return callBatch(ctx, a.c.crypto.BatchEncrypt, wire.EncodeBatchEncryptRequest(r),
		wire.DecodeBatchEncryptResponse, len(r.Items))
}

func (a api) BatchDecrypt(ctx context.Context, _ kms.Principal, r *kms.BatchDecryptRequest,
) ([]kms.PayloadResult, error) {
	return callBatch(ctx, a.c.crypto.BatchDecrypt, wire.EncodeBatchDecryptRequest(r),
		wire.DecodeBatchDecryptResponse, len(r.Items))
}

func (a api) GenerateDataKeys(ctx context.Context, _ kms.Principal, r *kms.GenerateDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	return callBatch(ctx, a.c.crypto.GenerateDataKeys, wire.EncodeGenerateDataKeysRequest(r),
		wire.DecodeGenerateDataKeysResponse, max(r.Count, 1))
}

func (a api) WrapDataKeys(ctx context.Context, _ kms.Principal, r *kms.WrapDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	return callBatch(ctx, a.c.crypto.WrapDataKeys, wire.EncodeWrapDataKeysRequest(r),
		wire.DecodeWrapDataKeysResponse, len(r.Items))
}

func (a api) UnwrapDataKeys(ctx context.Context, _ kms.Principal, r *kms.UnwrapDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	return callBatch(ctx, a.c.crypto.UnwrapDataKeys, wire.EncodeUnwrapDataKeysRequest(r),
		wire.DecodeUnwrapDataKeysResponse, len(r.Items))
}

func (a api) RewrapDataKeys(ctx context.Context, _ kms.Principal, r *kms.RewrapDataKeysRequest,
) ([]kms.DataKeyResult, error) {
	return callBatch(ctx, a.c.crypto.RewrapDataKeys, wire.EncodeRewrapDataKeysRequest(r),
		wire.DecodeRewrapDataKeysResponse, len(r.Items))
}

func (a api) Sign(ctx context.Context, _ kms.Principal, r *kms.SignRequest) (*kms.SignResult, error) {
	return call(ctx, a.c.crypto.Sign, wire.EncodeSignRequest(r), wire.DecodeSignResponse)
}

func (a api) BatchSign(ctx context.Context, _ kms.Principal, r *kms.BatchSignRequest) ([]kms.SignResult, error) {
	return callBatch(ctx, a.c.crypto.BatchSign, wire.EncodeBatchSignRequest(r), wire.DecodeBatchSignResponse, len(r.Items))
}

func (a api) Verify(ctx context.Context, _ kms.Principal, r *kms.VerifyRequest) (*kms.VerifyResult, error) {
	return call(ctx, a.c.crypto.Verify, wire.EncodeVerifyRequest(r), wire.DecodeVerifyResponse)
}

func (a api) GetPublicKey(ctx context.Context, _ kms.Principal, r *kms.GetPublicKeyRequest) (*kms.PublicKey, error) {
	return call(ctx, a.c.crypto.GetPublicKey, wire.EncodeGetPublicKeyRequest(r), wire.DecodeGetPublicKeyResponse)
}

func (a api) AsymmetricDecrypt(ctx context.Context, _ kms.Principal, r *kms.AsymmetricDecryptRequest,
) (*kms.AsymmetricDecryptResult, error) {
	return call(ctx, a.c.crypto.AsymmetricDecrypt, wire.EncodeAsymmetricDecryptRequest(r),
		wire.DecodeAsymmetricDecryptResponse)
}

func (a api) GenerateMac(ctx context.Context, _ kms.Principal, r *kms.GenerateMacRequest) (*kms.MacResult, error) {
	return call(ctx, a.c.crypto.GenerateMac, wire.EncodeGenerateMacRequest(r), wire.DecodeGenerateMacResponse)
}

func (a api) BatchGenerateMac(ctx context.Context, _ kms.Principal, r *kms.BatchGenerateMacRequest,
) ([]kms.MacResult, error) {
	return callBatch(ctx, a.c.crypto.BatchGenerateMac, wire.EncodeBatchGenerateMacRequest(r),
		wire.DecodeBatchGenerateMacResponse, len(r.Items))
}

func (a api) VerifyMac(ctx context.Context, _ kms.Principal, r *kms.VerifyMacRequest) (*kms.VerifyMacResult, error) {
	return call(ctx, a.c.crypto.VerifyMac, wire.EncodeVerifyMacRequest(r), wire.DecodeVerifyMacResponse)
}

func (a api) BatchVerifyMac(ctx context.Context, _ kms.Principal, r *kms.BatchVerifyMacRequest,
) ([]kms.VerifyMacResult, error) {
	return callBatch(ctx, a.c.crypto.BatchVerifyMac, wire.EncodeBatchVerifyMacRequest(r),
		wire.DecodeBatchVerifyMacResponse, len(r.Items))
}

func (a api) GenerateRandom(ctx context.Context, _ kms.Principal, size int) (kms.Secret, error) {
	response, err := a.c.crypto.GenerateRandom(ctx, wire.EncodeGenerateRandomRequest(size))
	if err != nil {
		return nil, wire.FromStatus(err)
	}
	return wire.DecodeGenerateRandomResponse(response), nil
}
