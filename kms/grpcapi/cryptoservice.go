package grpcapi

import (
	"context"
	"log/slog"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// cryptoService implements CryptoService.
//
// No response needs a size check: the most items, each with the longest data key or
// signature, the longest refusal and a version of its own, fit into a message, and the
// plaintext of a batch of payloads is bounded together.
type cryptoService struct {
	kmsv1.UnsafeCryptoServiceServer
	api    kms.API
	logger *slog.Logger
}

func (s *cryptoService) Encrypt(ctx context.Context, m *kmsv1.EncryptRequest) (*kmsv1.EncryptResponse, error) {
	return call(ctx, m, wire.DecodeEncryptRequest, s.api.Encrypt, wire.EncodeEncryptResponse)
}

func (s *cryptoService) Decrypt(ctx context.Context, m *kmsv1.DecryptRequest) (*kmsv1.DecryptResponse, error) {
	return call(ctx, m, wire.DecodeDecryptRequest, s.api.Decrypt, wire.EncodeDecryptResponse)
}

func (s *cryptoService) ReEncrypt(ctx context.Context, m *kmsv1.ReEncryptRequest) (*kmsv1.ReEncryptResponse, error) {
	return call(ctx, m, wire.DecodeReEncryptRequest, s.api.ReEncrypt, wire.EncodeReEncryptResponse)
}

func (s *cryptoService) BatchEncrypt(ctx context.Context, m *kmsv1.BatchEncryptRequest) (*kmsv1.BatchEncryptResponse, error) {
	return call(ctx, m, wire.DecodeBatchEncryptRequest, s.api.BatchEncrypt,
		batch(ctx, s.logger, wire.EncodeBatchEncryptResponse))
}

func (s *cryptoService) BatchDecrypt(ctx context.Context, m *kmsv1.BatchDecryptRequest) (*kmsv1.BatchDecryptResponse, error) {
	return call(ctx, m, wire.DecodeBatchDecryptRequest, s.api.BatchDecrypt,
		batch(ctx, s.logger, wire.EncodeBatchDecryptResponse))
}

func (s *cryptoService) GenerateDataKeys(ctx context.Context, m *kmsv1.GenerateDataKeysRequest) (*kmsv1.GenerateDataKeysResponse, error) {
	return call(ctx, m, wire.DecodeGenerateDataKeysRequest, s.api.GenerateDataKeys,
		batch(ctx, s.logger, wire.EncodeGenerateDataKeysResponse))
}

func (s *cryptoService) WrapDataKeys(ctx context.Context, m *kmsv1.WrapDataKeysRequest) (*kmsv1.WrapDataKeysResponse, error) {
	return call(ctx, m, wire.DecodeWrapDataKeysRequest, s.api.WrapDataKeys,
		batch(ctx, s.logger, wire.EncodeWrapDataKeysResponse))
}

func (s *cryptoService) UnwrapDataKeys(ctx context.Context, m *kmsv1.UnwrapDataKeysRequest) (*kmsv1.UnwrapDataKeysResponse, error) {
	return call(ctx, m, wire.DecodeUnwrapDataKeysRequest, s.api.UnwrapDataKeys,
		batch(ctx, s.logger, wire.EncodeUnwrapDataKeysResponse))
}

func (s *cryptoService) RewrapDataKeys(ctx context.Context, m *kmsv1.RewrapDataKeysRequest) (*kmsv1.RewrapDataKeysResponse, error) {
	return call(ctx, m, wire.DecodeRewrapDataKeysRequest, s.api.RewrapDataKeys,
		batch(ctx, s.logger, wire.EncodeRewrapDataKeysResponse))
}

func (s *cryptoService) Sign(ctx context.Context, m *kmsv1.SignRequest) (*kmsv1.SignResponse, error) {
	return call(ctx, m, wire.DecodeSignRequest, s.api.Sign, wire.EncodeSignResponse)
}

func (s *cryptoService) BatchSign(ctx context.Context, m *kmsv1.BatchSignRequest) (*kmsv1.BatchSignResponse, error) {
	return call(ctx, m, wire.DecodeBatchSignRequest, s.api.BatchSign,
		batch(ctx, s.logger, wire.EncodeBatchSignResponse))
}

func (s *cryptoService) Verify(ctx context.Context, m *kmsv1.VerifyRequest) (*kmsv1.VerifyResponse, error) {
	return call(ctx, m, wire.DecodeVerifyRequest, s.api.Verify, wire.EncodeVerifyResponse)
}

func (s *cryptoService) GetPublicKey(ctx context.Context, m *kmsv1.GetPublicKeyRequest) (*kmsv1.GetPublicKeyResponse, error) {
	return call(ctx, m, wire.DecodeGetPublicKeyRequest, s.api.GetPublicKey, wire.EncodeGetPublicKeyResponse)
}

func (s *cryptoService) AsymmetricDecrypt(ctx context.Context, m *kmsv1.AsymmetricDecryptRequest) (*kmsv1.AsymmetricDecryptResponse, error) {
	return call(ctx, m, wire.DecodeAsymmetricDecryptRequest, s.api.AsymmetricDecrypt, wire.EncodeAsymmetricDecryptResponse)
}

func (s *cryptoService) GenerateMac(ctx context.Context, m *kmsv1.GenerateMacRequest) (*kmsv1.GenerateMacResponse, error) {
	return call(ctx, m, wire.DecodeGenerateMacRequest, s.api.GenerateMac, wire.EncodeGenerateMacResponse)
}

func (s *cryptoService) BatchGenerateMac(ctx context.Context, m *kmsv1.BatchGenerateMacRequest) (*kmsv1.BatchGenerateMacResponse, error) {
	return call(ctx, m, wire.DecodeBatchGenerateMacRequest, s.api.BatchGenerateMac,
		batch(ctx, s.logger, wire.EncodeBatchGenerateMacResponse))
}

func (s *cryptoService) VerifyMac(ctx context.Context, m *kmsv1.VerifyMacRequest) (*kmsv1.VerifyMacResponse, error) {
	return call(ctx, m, wire.DecodeVerifyMacRequest, s.api.VerifyMac, wire.EncodeVerifyMacResponse)
}

func (s *cryptoService) BatchVerifyMac(ctx context.Context, m *kmsv1.BatchVerifyMacRequest) (*kmsv1.BatchVerifyMacResponse, error) {
	return call(ctx, m, wire.DecodeBatchVerifyMacRequest, s.api.BatchVerifyMac,
		batch(ctx, s.logger, wire.EncodeBatchVerifyMacResponse))
}

func (s *cryptoService) GenerateRandom(ctx context.Context, m *kmsv1.GenerateRandomRequest) (*kmsv1.GenerateRandomResponse, error) {
	p, err := principal(ctx)
	if err != nil {
		return nil, err
	}
	data, err := s.api.GenerateRandom(ctx, p, wire.DecodeGenerateRandomRequest(m))
	if err != nil {
		return nil, err
	}
	return wire.EncodeGenerateRandomResponse(data), nil
}

// batch gives the encoder of a batch's results the log for errors of items that the
// caller is not told.
func batch[R, W any](ctx context.Context, logger *slog.Logger, encode func([]R, wire.Report) W) func([]R) W {
	return func(results []R) W { return encode(results, report(ctx, logger)) }
}
