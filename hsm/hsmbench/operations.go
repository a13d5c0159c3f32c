package hsmbench

import (
	"context"
	"crypto/rand"
	"slices"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// derivedKeyBytes is what one derivation encrypts: two blocks, which become an
	// AES-256 key (C2SP XAES-256-GCM).
	derivedKeyBytes = 2 * hsm.BlockSize
	// itemBytes is the plaintext of a GCM item: a data key for AES-256.
	itemBytes = 32
	// itemAADBytes is the associated data of a GCM item: the header of the service's
	// envelope.
	itemAADBytes = 20
	// signedBytes is a SHA-256 digest, or a message that is as short.
	signedBytes = 32
	// randomBytes is what a request for a data key asks of the token's generator.
	randomBytes = 32
)

// operation is what is measured: what a call of it holds, and how a caller makes one.
type operation struct {
	name         string
	bytes, items int
	prepare      func(ctx context.Context) (call, error)
}

// blockSizes are the bytes of one EncryptBlocks: one derivation, a batch, and the largest
// batch that the token takes in one call.
func blockSizes(largest int) []int {
	sizes := []int{derivedKeyBytes, 1 << 10, 32 << 10}
	for i := range sizes {
		sizes[i] = min(sizes[i], largest)
	}
	return slices.Compact(sizes)
}

// encryptBlocks is EncryptBlocks of size bytes.
func encryptBlocks(token hsm.Token, key hsm.UID, size int) operation {
	return operation{OperationEncryptBlocks, size, max(1, size/derivedKeyBytes), func(context.Context) (call, error) {
		buffer := random(size)
		return func(ctx context.Context) error { return token.EncryptBlocks(ctx, key, buffer, buffer) }, nil
	}}
}

// seal is Seal of a batch.
func seal(token hsm.Token, key hsm.UID, batch int) operation {
	return operation{OperationSeal, itemBytes, batch, func(context.Context) (call, error) {
		items := sealItems(batch)
		return func(ctx context.Context) error { return sealAll(ctx, token, key, items) }, nil
	}}
}

// open is Open of a batch that Seal has sealed.
func open(token hsm.Token, key hsm.UID, batch int) operation {
	return operation{OperationOpen, itemBytes, batch, func(ctx context.Context) (call, error) {
		sealed := sealItems(batch)
		if err := sealAll(ctx, token, key, sealed); err != nil {
			return nil, err
		}
		items := make([]hsm.OpenItem, batch)
		for i := range items {
			items[i] = hsm.OpenItem{Nonce: sealed[i].Nonce, Sealed: sealed[i].Sealed, AAD: sealed[i].AAD}
		}
		return func(ctx context.Context) error {
			if err := token.Open(ctx, key, items); err != nil {
				return err
			}
			for i := range items {
				if items[i].Err != nil {
					return items[i].Err
				}
			}
			return nil
		}, nil
	}}
}

// sign is Sign of a digest or a short message.
func sign(token hsm.Token, key hsm.UID, name string, scheme hsm.Scheme) operation {
	return operation{name, signedBytes, 1, func(context.Context) (call, error) {
		input := random(signedBytes)
		return func(ctx context.Context) error {
			_, err := token.Sign(ctx, key, scheme, input)
			return err
		}, nil
	}}
}

// mac is MAC of a short message.
func mac(token hsm.Token, key hsm.UID) operation {
	return operation{OperationMAC, signedBytes, 1, func(context.Context) (call, error) {
		message := random(signedBytes)
		return func(ctx context.Context) error {
			_, err := token.MAC(ctx, key, message)
			return err
		}, nil
	}}
}

// randomNumbers is Random of a data key.
func randomNumbers(token hsm.Token) operation {
	return operation{OperationRandom, randomBytes, 1, func(context.Context) (call, error) {
		buffer := make([]byte, randomBytes)
		return func(ctx context.Context) error { return token.Random(ctx, buffer) }, nil
	}}
}

func sealItems(batch int) []hsm.SealItem {
	items := make([]hsm.SealItem, batch)
	for i := range items {
		items[i] = hsm.SealItem{Plaintext: random(itemBytes), AAD: random(itemAADBytes)}
	}
	return items
}

func sealAll(ctx context.Context, token hsm.Token, key hsm.UID, items []hsm.SealItem) error {
	if err := token.Seal(ctx, key, items); err != nil {
		return err
	}
	for i := range items {
		if items[i].Err != nil {
			return items[i].Err
		}
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
