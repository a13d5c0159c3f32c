package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// Small payloads go to the service, which encrypts them with the key in the HSM.
func Example() {
	if err := keepSecret(context.Background(), "profile.yaml"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func keepSecret(ctx context.Context, profileFile string) error {
	profile, err := client.LoadProfile(profileFile)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, profile)
	if err != nil {
		return err
	}
	defer c.Close()

	key, err := kms.NewKeyName(profile.DefaultNamespace(), "orders")
	if err != nil {
		return err
	}
	binding := kms.Binding{Context: map[string]string{"customer": "4711"}}
	encrypted, err := c.API().Encrypt(ctx, kms.Principal{}, &kms.EncryptRequest{
		Key: key, Plaintext: []byte("the customer's account number"), Binding: binding,
	})
	if err != nil {
		return err
	}
	decrypted, err := c.API().Decrypt(ctx, kms.Principal{}, &kms.DecryptRequest{
		Parent: key.Namespace(), Ciphertext: encrypted.Ciphertext, Binding: binding,
	})
	if errors.Is(err, kms.ErrVersionRevoked) {
		return errors.New("the data is lost: its key version was revoked")
	}
	if err != nil {
		return err
	}
	defer decrypted.Plaintext.Wipe()
	fmt.Fprintln(os.Stderr, len(decrypted.Plaintext), "bytes under", decrypted.Version)
	return nil
}

// Many records get a data key each, in one call.
func ExampleClient_API() {
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Profile{Address: "unix:///run/keyholt/kmsd.sock"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer c.Close()

	key, err := kms.ParseKeyName("namespaces/shop/keys/orders")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	dataKeys, err := c.API().GenerateDataKeys(ctx, kms.Principal{}, &kms.GenerateDataKeysRequest{Key: key, Count: 1000})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	for _, k := range dataKeys {
		if k.Err != nil {
			fmt.Fprintln(os.Stderr, k.Err)
			continue
		}
		// Encrypt a record with k.DataKey, store it beside k.Wrapped, and forget the key.
		k.DataKey.Wipe()
	}
}

// Data of any size is encrypted on the caller's machine; the service sees the data key
// only. The plaintext is complete when DecryptStream has returned without an error, and
// not before: so it goes to a temporary file that gets its name after success.
func ExampleClient_DecryptStream() {
	if err := restore(context.Background(), "database.khf", "database.dump"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func restore(ctx context.Context, from, to string) error {
	c, err := client.Dial(ctx, client.Profile{Address: "unix:///run/keyholt/kmsd.sock"})
	if err != nil {
		return err
	}
	defer c.Close()
	key, err := kms.ParseKeyName("namespaces/default/keys/backups")
	if err != nil {
		return err
	}
	encrypted, err := os.Open(from)
	if err != nil {
		return err
	}
	defer encrypted.Close()

	temporary, err := os.CreateTemp(".", to+"-*")
	if err != nil {
		return err
	}
	err = c.DecryptStream(ctx, key.Namespace(), key, nil, temporary, encrypted)
	if err = errors.Join(err, temporary.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return os.Rename(temporary.Name(), to)
}
