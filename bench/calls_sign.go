package bench

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/keyholt/keyholt/kms/client"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// digestItems makes digests for one key, and gets its public key.
func digestItems(ctx context.Context, c *client.Client, s set, n int, items []*item) error {
	answer, err := c.Crypto().GetPublicKey(ctx, &kmsv1.GetPublicKeyRequest{
		Key: s.keyName(n), Format: kmsv1.PublicKeyFormat_PUBLIC_KEY_FORMAT_DER,
	})
	if err != nil {
		return err
	}
	public, err := x509.ParsePKIXPublicKey(answer.GetPublicKey())
	if err != nil {
		return err
	}
	for _, it := range items {
		it.public, it.digest = public, make([]byte, sha256.Size)
		_, _ = rand.Read(it.digest) // never fails
	}
	return nil
}

// checkSignature tells whether a signature is that of the item's digest.
func checkSignature(it *item, signature []byte) error {
	good := false
	switch public := it.public.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(public, it.digest, signature)
	case *rsa.PublicKey:
		good = rsa.VerifyPKCS1v15(public, crypto.SHA256, it.digest, signature) == nil
	}
	if !good {
		return fmt.Errorf("%w: the signature does not verify", ErrAnswer)
	}
	return nil
}

// checkSignatureSize tells whether a field can be a signature: how long one of ECDSA is
// varies by a few bytes in DER.
func checkSignatureSize(it *item, signature []byte) error {
	least, most := 64, 72
	if public, ok := it.public.(*rsa.PublicKey); ok {
		least, most = public.Size(), public.Size()
	}
	if len(signature) < least || len(signature) > most {
		return fmt.Errorf("%w: a signature of %d bytes", ErrAnswer, len(signature))
	}
	return nil
}

func prepareSign(items []item, _ map[string]string) call {
	it := &items[0]
	request := &kmsv1.SignRequest{
		Key: it.key, Digest: it.digest, DigestHash: kmsv1.HashAlgorithm_HASH_ALGORITHM_SHA256,
	}
	return newCall(kmsv1.CryptoServiceClient.Sign, request,
		func(answer *kmsv1.SignResponse) error { return checkSignatureSize(it, answer.GetSignature()) },
		func(_ context.Context, _ *connection, answer *kmsv1.SignResponse) error {
			return checkSignature(it, answer.GetSignature())
		})
}

func prepareBatchSign(items []item, _ map[string]string) call {
	request := &kmsv1.BatchSignRequest{Parent: parent, Key: items[0].key}
	for i := range items {
		request.Items = append(request.Items, &kmsv1.BatchSignRequest_Item{
			Digest: items[i].digest, DigestHash: kmsv1.HashAlgorithm_HASH_ALGORITHM_SHA256,
		})
	}
	each := func(answer *kmsv1.BatchSignResponse, check func(*item, []byte) error) error {
		for i, r := range answer.GetResults() {
			if err := check(&items[i], r.GetSignature()); err != nil {
				return err
			}
		}
		return nil
	}
	return newCall(kmsv1.CryptoServiceClient.BatchSign, request,
		func(answer *kmsv1.BatchSignResponse) error {
			if err := checkResults(answer.GetResults(), len(items)); err != nil {
				return err
			}
			return each(answer, checkSignatureSize)
		},
		func(_ context.Context, _ *connection, answer *kmsv1.BatchSignResponse) error {
			return each(answer, checkSignature)
		})
}
