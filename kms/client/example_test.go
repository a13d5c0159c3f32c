package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// Records are encrypted on the caller's machine, each under a data key of its own, which
// travels with it in wrapped form.
func Example() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile) // client.LoadProfile reads one from a file
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/orders")
		if err != nil {
			return err
		}
		orders, err := c.DataKeys(key)
		if err != nil {
			return err
		}

		binding := kms.Binding{
			Context: map[string]string{"table": "orders"}, // the service sees and logs it
			AAD:     []byte("row 4711"),                   // stays on this machine
		}
		message, err := orders.Seal(ctx, []byte("two boxes of chalk"), binding)
		if err != nil {
			return err
		}
		plaintext, err := orders.Open(ctx, message, binding)
		if err != nil {
			return err
		}
		defer plaintext.Wipe()
		fmt.Printf("%s: %d bytes more\n", []byte(plaintext), len(message)-len(plaintext))

		binding.AAD = []byte("row 4712")
		_, err = orders.Open(ctx, message, binding)
		fmt.Println("in another row:", err)
		return nil
	}))
	// Output:
	// two boxes of chalk: 126 bytes more
	// in another row: the encrypted message does not authenticate
}

// Programs that encrypt themselves take data keys. Callers at work at the same time share
// RPCs: there is no need to collect a batch.
func ExampleDataKeys() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/orders")
		if err != nil {
			return err
		}
		orders, err := c.DataKeys(key)
		if err != nil {
			return err
		}

		var running sync.WaitGroup
		failed := make(chan error, 100)
		for i := range 100 {
			running.Go(func() {
				binding := kms.Binding{Context: map[string]string{"row": fmt.Sprint(i)}}
				dataKey, err := orders.Generate(ctx, binding)
				if err != nil {
					failed <- err
					return
				}
				defer dataKey.Key.Wipe()
				// Encrypt with dataKey.Key, store dataKey.Wrapped. To read again:
				unwrapped, err := orders.Unwrap(ctx, dataKey.Wrapped, binding)
				if err != nil {
					failed <- err
					return
				}
				defer unwrapped.Wipe()
				if !bytes.Equal(unwrapped, dataKey.Key) {
					failed <- errors.New("not the same key")
				}
			})
		}
		running.Wait()
		close(failed)
		fmt.Println(len(failed), "failures")
		return <-failed
	}))
	// Output: 0 failures
}

// A data-key cache saves calls, and puts off revocation: a key in it can be used until its
// age ends, whatever the service says meanwhile.
func ExampleWithUnwrapCache() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/orders")
		if err != nil {
			return err
		}
		orders, err := c.DataKeys(key,
			client.WithUnwrapCache(client.CacheLimits{MaxKeys: 100, MaxAge: 30 * time.Second, MaxUses: 10_000}),
			client.WithSealReuse(client.CacheLimits{MaxAge: time.Second, MaxUses: 100}),
		)
		if err != nil {
			return err
		}
		first, err := orders.Seal(ctx, []byte("first"), kms.Binding{})
		if err != nil {
			return err
		}
		version, err := c.API().RevokeKeyVersion(ctx, kms.Principal{}, &kms.RevokeRequest{
			Name: key.Version(1), Reason: "an example", DataLossAccepted: true,
		})
		if err != nil {
			return err
		}
		fmt.Println("revoked:", version.Version.Name)
		_, err = orders.Seal(ctx, []byte("second"), kms.Binding{})
		fmt.Println("sealed with the key at hand:", err == nil)
		_, err = orders.Open(ctx, first, kms.Binding{}) // has not been unwrapped before
		fmt.Println("unwrapped by the service:", !errors.Is(err, kms.ErrVersionRevoked))
		return nil
	}))
	// Output:
	// revoked: namespaces/default/keys/orders/versions/1
	// sealed with the key at hand: true
	// unwrapped by the service: false
}

// All of the service's calls are there in domain terms. Small payloads can go to the
// service, which encrypts them with the key in the HSM.
func ExampleClient_API() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
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
			Key: key, Plaintext: []byte("DE02120300000000202051"), Binding: binding,
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
		fmt.Println(len(decrypted.Plaintext), "bytes under", decrypted.Version)
		fmt.Printf("printed by mistake: %v\n", decrypted.Plaintext)
		return nil
	}))
	// Output:
	// 22 bytes under namespaces/default/keys/orders/versions/1
	// printed by mistake: [redacted]
}

// Data of any size is encrypted on the caller's machine as a stream. The plaintext is
// complete when DecryptStream has returned without an error, and not before: so it goes to
// a temporary file that gets its name after success.
func ExampleClient_DecryptStream() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/backups")
		if err != nil {
			return err
		}
		var encrypted bytes.Buffer
		dump := bytes.NewReader(bytes.Repeat([]byte("a row\n"), 500_000))
		if err := c.EncryptStream(ctx, key, nil, &encrypted, dump); err != nil {
			return err
		}

		dir, err := os.MkdirTemp("", "restore")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		temporary, err := os.CreateTemp(dir, "database.dump-*")
		if err != nil {
			return err
		}
		err = c.DecryptStream(ctx, key.Namespace(), key, nil, temporary, &encrypted)
		if err = errors.Join(err, temporary.Close()); err != nil {
			return err
		}
		restored := filepath.Join(dir, "database.dump")
		if err := os.Rename(temporary.Name(), restored); err != nil {
			return err
		}
		info, err := os.Stat(restored)
		if err != nil {
			return err
		}
		fmt.Println(info.Size(), "bytes restored")
		return nil
	}))
	// Output: 3000000 bytes restored
}

func report(err error) {
	if err != nil {
		fmt.Println("error:", err)
	}
}
