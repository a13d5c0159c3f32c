package kms

import (
	"context"
	"errors"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms/envelope"
)

// strictCipher is the STRICT profile: each item's AES-256-GCM runs inside the token.
type strictCipher struct{ s *Service }

func (c strictCipher) open(ctx context.Context, v *versionEntry, u use, items []*item) error {
	if err := c.s.checkObject(ctx, v); err != nil {
		return err
	}
	batch := make([]hsm.OpenItem, len(items))
	aads := make(sharedAADs)
	for i, it := range items {
		batch[i] = hsm.OpenItem{Nonce: it.blob.Nonce, Sealed: it.blob.Sealed, AAD: aads.of(it.bound, it.blob.Header())}
	}
	cipherCtx, end := c.s.begin(ctx, PhaseCipher)
	err := c.s.token.Open(cipherCtx, v.UID, batch)
	end()
	if err != nil {
		return tokenError(err, "decrypt")
	}
	for i, it := range items {
		switch err := batch[i].Err; {
		case err == nil:
			it.plaintext = batch[i].Plaintext
		case errors.Is(err, hsm.ErrAuthentication):
			it.err = decryptionFailed()
		default:
			it.err = c.s.explain(v, u, tokenError(err, "decrypt"))
		}
	}
	return nil
}

func (c strictCipher) seal(ctx context.Context, v *versionEntry, kind envelope.Kind, items []*item) error {
	if err := c.s.checkObject(ctx, v); err != nil {
		return err
	}
	granted, err := c.s.takeEncryptions(ctx, v, len(items))
	if err != nil {
		return err
	}
	for _, it := range items[granted:] {
		it.sealErr = errorf(ErrEncryptionLimit, "%s has made as many ciphertexts as its nonces allow: rotate the key", v.Name).
			with("key_version", v.Name.String())
	}
	if granted == 0 {
		return nil
	}
	items = items[:granted]
	batch := make([]hsm.SealItem, len(items))
	header := envelope.NewHeader(envelope.FormatStrict, kind, envelope.UID(v.UID))
	aads := make(sharedAADs)
	for i, it := range items {
		batch[i] = hsm.SealItem{Plaintext: it.plaintext, AAD: aads.of(it.rebound, header)}
	}
	cipherCtx, end := c.s.begin(ctx, PhaseCipher)
	err = c.s.token.Seal(cipherCtx, v.UID, batch)
	end()
	if err != nil {
		return tokenError(err, "encrypt")
	}
	for i, it := range items {
		if err := batch[i].Err; err != nil {
			it.sealErr = c.s.explain(v, useSeal, tokenError(err, "encrypt"))
			continue
		}
		blob := envelope.Blob{
			Format: envelope.FormatStrict, Kind: kind, UID: envelope.UID(v.UID),
			Nonce: batch[i].Nonce, Sealed: batch[i].Sealed,
		}
		if it.ciphertext, err = envelope.Append(nil, blob); err != nil {
			it.sealErr = errorf(ErrUnsupported, "the token made a ciphertext that cannot be kept").because(err)
		}
	}
	return nil
}

// sharedAADs holds the AAD of each binding of a batch whose blobs all have one header.
// Most items share the request's binding: 4,096 copies of 64 KiB would be 256 MiB.
type sharedAADs map[*envelope.Binding][]byte

func (s sharedAADs) of(bound *envelope.Binding, header envelope.Header) []byte {
	aad, ok := s[bound]
	if !ok {
		aad = bound.AppendAAD(make([]byte, 0, bound.AADSize()), header)
		s[bound] = aad
	}
	return aad
}
