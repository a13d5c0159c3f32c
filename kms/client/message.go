package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// ErrMessage is the error of an encrypted message that does not authenticate: it was
// changed, or other additional authenticated data belongs to it.
var ErrMessage = errors.New("the encrypted message does not authenticate")

// Seal encrypts a message on this machine, under a new data key ([DataKeys.Generate]), and
// returns it with the wrapped key in front (section 10 of package envelope's FORMAT.md): it
// is at most [envelope.MessageOverheadMax] bytes longer than the plaintext, and Open needs
// nothing else but the binding.
//
// The binding's encryption context is bound to the wrapped key, and the service sees it.
// Its additional authenticated data is bound to the message, stays on this machine, and may
// be of any length.
func (k *DataKeys) Seal(ctx context.Context, plaintext []byte, b kms.Binding) ([]byte, error) {
	dataKey, err := k.sealingKey(ctx, b.Context)
	defer dataKey.Key.Wipe()
	if err != nil {
		return nil, err
	}
	header, err := envelope.AppendMessageHeader(nil, dataKey.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("the service returned a wrapped key that is not one: %w", err)
	}
	aead, err := newMessageAEAD(dataKey.Key)
	if err != nil {
		return nil, err
	}
	sealed, err := aead.Encrypt(plaintext, envelope.AppendMessageAAD(nil, b.AAD))
	if err != nil {
		return nil, fmt.Errorf("seal the message: %w", err)
	}
	return append(header, sealed...), nil
}

// Open decrypts what Seal has made with an equal binding. Errors wrap
// [envelope.ErrMalformed] if the bytes are no message, match [ErrMessage] if the message
// does not authenticate, and are those of Unwrap otherwise: of another encryption context
// [kms.ErrDecryptionFailed].
func (k *DataKeys) Open(ctx context.Context, message []byte, b kms.Binding) (kms.Secret, error) {
	m, err := envelope.ParseMessage(message)
	if err != nil {
		return nil, err
	}
	dataKey, err := k.Unwrap(ctx, m.WrappedKey, messageKeyBinding(b.Context))
	defer dataKey.Wipe()
	if err != nil {
		return nil, err
	}
	aead, err := newMessageAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Decrypt(m.Sealed, envelope.AppendMessageAAD(nil, b.AAD))
	if err != nil {
		return nil, ErrMessage // the one thing that can be wrong, and Tink says no more either
	}
	return plaintext, nil
}

// sealingKey returns the data key for a message: a new one, or one that may be used again.
func (k *DataKeys) sealingKey(ctx context.Context, encryptionContext map[string]string) (DataKey, error) {
	binding := messageKeyBinding(encryptionContext)
	if k.sealing == nil {
		return k.generate(ctx, envelope.MessageKeySize, binding)
	}
	c, err := k.calls.get(k.key, nil, binding)
	if err != nil {
		return DataKey{}, err
	}
	id := k.sealing.id(c)
	c.free()
	if found, ok := k.sealing.get(id); ok {
		return found, nil
	}
	asked := time.Now()
	dataKey, err := k.generate(ctx, envelope.MessageKeySize, binding)
	if err == nil {
		k.sealing.put(id, dataKey, asked)
	}
	return dataKey, err
}

// messageKeyBinding is what the data key of a message is bound to.
func messageKeyBinding(encryptionContext map[string]string) kms.Binding {
	prefix := envelope.MessagePrefix()
	return kms.Binding{Context: encryptionContext, AAD: prefix[:]}
}

// newMessageAEAD is the AEAD of FORMAT.md, section 10. It keeps a copy of the data key,
// which nobody can wipe, until the garbage collector reuses the memory.
func newMessageAEAD(dataKey kms.Secret) (*subtle.AESGCM, error) {
	if len(dataKey) != envelope.MessageKeySize {
		return nil, fmt.Errorf("the service returned a data key of %d bytes, want %d",
			len(dataKey), envelope.MessageKeySize)
	}
	return subtle.NewAESGCM(dataKey)
}
