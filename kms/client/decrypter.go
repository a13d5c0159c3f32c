package client

import (
	"context"
	"crypto"
	"io"

	"github.com/keyholt/keyholt/kms"
)

// Decrypter decrypts with the private key of one version of an ASYMMETRIC_DECRYPT key,
// which stays in the HSM: RSAES-OAEP with the hash of the key's algorithm. It is a
// [crypto.Decrypter]. Anybody encrypts for it with rsa.EncryptOAEP and its public key.
//
// A Decrypter stays with its version. What was encrypted with the public key of another
// one does not decrypt. Errors are those of [Client.API], or match [ErrSignerOptions].
type Decrypter struct{ keyPair }

var _ crypto.Decrypter = (*Decrypter)(nil)

// Decrypter makes a Decrypter of the primary version of an ASYMMETRIC_DECRYPT key. It asks
// the service for the public key. Calls of the Decrypter have the values of ctx, but not
// its end: see [Decrypter.WithContext].
func (c *Client) Decrypter(ctx context.Context, key kms.KeyName) (*Decrypter, error) {
	return newDecrypter(ctx, c, &kms.GetPublicKeyRequest{Key: key})
}

// VersionDecrypter is Decrypter for a version.
func (c *Client) VersionDecrypter(ctx context.Context, version kms.VersionName) (*Decrypter, error) {
	return newDecrypter(ctx, c, &kms.GetPublicKeyRequest{Version: version})
}

func newDecrypter(ctx context.Context, c *Client, r *kms.GetPublicKeyRequest) (*Decrypter, error) {
	pair, err := newKeyPair(ctx, c.API(), kms.PurposeAsymmetricDecrypt, r)
	if err != nil {
		return nil, err
	}
	return &Decrypter{pair}, nil
}

// WithContext returns a Decrypter whose calls end with ctx and carry its values.
func (d *Decrypter) WithContext(ctx context.Context) *Decrypter {
	c := *d
	c.ctx = ctx
	return &c
}

// Decrypt decrypts a ciphertext. The options must be *rsa.OAEPOptions of the algorithm's
// hash, without a label; others are refused with [ErrSignerOptions], nil among them, which
// asks for the padding of PKCS #1 v1.5. Whatever is wrong with a ciphertext of the right
// length is one error, [kms.ErrDecryptionFailed]. The reader is not used. The plaintext is
// the caller's to wipe.
func (d *Decrypter) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if err := checkDecrypterOpts(d.algorithm, opts); err != nil {
		return nil, err
	}
	result, err := d.service.AsymmetricDecrypt(d.ctx, kms.Principal{}, &kms.AsymmetricDecryptRequest{
		Version: d.version, Ciphertext: ciphertext,
	})
	if err != nil {
		return nil, err
	}
	return result.Plaintext, nil
}
