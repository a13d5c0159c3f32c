package tinkaead

import (
	"context"
	"maps"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// AEAD encrypts and decrypts with a key of the service. Tink's associated data is the
// service's additional authenticated data: bound, never logged, at most 64 KiB.
type AEAD struct {
	service           kms.API
	key               kms.KeyName
	encryptionContext map[string]string
}

var (
	_ tink.AEAD            = (*AEAD)(nil)
	_ tink.AEADWithContext = (*AEAD)(nil)
)

// Option changes how [New] makes an AEAD.
type Option func(*AEAD)

// WithEncryptionContext binds all ciphertexts to an encryption context, beside the
// associated data of each: the service logs it, and its policies can use it. Decryption
// needs the same.
func WithEncryptionContext(pairs map[string]string) Option {
	return func(a *AEAD) { a.encryptionContext = maps.Clone(pairs) }
}

// New makes an AEAD of a key. It makes no call: a key that does not exist is the error of
// the first.
func New(c *client.Client, key kms.KeyName, opts ...Option) *AEAD {
	a := &AEAD{service: c.API(), key: key}
	for _, opt := range opts {
		opt(a)
	}
	return a
}

// EncryptWithContext encrypts up to 64 KiB under the primary version of the key. Errors
// are those of [client.Client.API].
func (a *AEAD) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	result, err := a.service.Encrypt(ctx, kms.Principal{}, &kms.EncryptRequest{
		Key: a.key, Plaintext: plaintext, Binding: a.binding(associatedData),
	})
	if err != nil {
		return nil, err
	}
	return result.Ciphertext, nil
}

// DecryptWithContext decrypts what a version of the key has encrypted; ciphertexts of
// other keys are refused. Errors are those of [client.Client.API].
func (a *AEAD) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	result, err := a.service.Decrypt(ctx, kms.Principal{}, &kms.DecryptRequest{
		Parent: a.key.Namespace(), Key: a.key, Ciphertext: ciphertext, Binding: a.binding(associatedData),
	})
	if err != nil {
		return nil, err
	}
	return result.Plaintext, nil
}

// Encrypt is EncryptWithContext with the client's timeout as the only deadline.
func (a *AEAD) Encrypt(plaintext, associatedData []byte) ([]byte, error) {
	return a.EncryptWithContext(context.Background(), plaintext, associatedData) // tink.AEAD hands over none
}

// Decrypt is DecryptWithContext with the client's timeout as the only deadline.
func (a *AEAD) Decrypt(ciphertext, associatedData []byte) ([]byte, error) {
	return a.DecryptWithContext(context.Background(), ciphertext, associatedData) // tink.AEAD hands over none
}

func (a *AEAD) binding(associatedData []byte) kms.Binding {
	return kms.Binding{Context: a.encryptionContext, AAD: associatedData}
}
