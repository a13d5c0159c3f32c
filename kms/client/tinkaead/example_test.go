package tinkaead_test

import (
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/aead"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/client/tinkaead"
)

// Data of any size is encrypted by Tink with a key of its own making, and that key by the
// service.
func ExampleNew() {
	err := withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/orders")
		if err != nil {
			return err
		}

		remote := tinkaead.New(c, key) // the one line that knows the service
		primitive := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote)

		ciphertext, err := primitive.Encrypt([]byte("two boxes of chalk"), []byte("row 4711"))
		if err != nil {
			return err
		}
		plaintext, err := primitive.Decrypt(ciphertext, []byte("row 4711"))
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", plaintext)
		return nil
	})
	if err != nil {
		fmt.Println("error:", err)
	}
	// Output: two boxes of chalk
}
