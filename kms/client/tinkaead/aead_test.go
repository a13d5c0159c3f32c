package tinkaead_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/core/registry"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/client/tinkaead"
	"github.com/keyholt/keyholt/kms/envelope"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// withKey runs a test against a service that has the key.
func withKey(t *testing.T, test func(t *testing.T, c *client.Client, key kms.KeyName)) {
	t.Helper()
	err := withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.NewKeyName(profile.DefaultNamespace(), "orders")
		if err != nil {
			return err
		}
		test(t, c, key)
		return nil
	})
	must(t, err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRemoteAEAD(t *testing.T) {
	withKey(t, func(t *testing.T, c *client.Client, key kms.KeyName) {
		a := tinkaead.New(c, key)
		for _, plaintext := range [][]byte{nil, []byte("plaintext"), make([]byte, envelope.MaxPlaintextSize)} {
			for _, associated := range [][]byte{nil, []byte("row 4711")} {
				ciphertext, err := a.Encrypt(plaintext, associated)
				must(t, err)
				got, err := a.DecryptWithContext(t.Context(), ciphertext, associated)
				must(t, err)
				if !bytes.Equal(got, plaintext) {
					t.Errorf("%d bytes came back as %d others", len(plaintext), len(got))
				}
				if _, err := a.Decrypt(ciphertext, []byte("row 4712")); !errors.Is(err, kms.ErrDecryptionFailed) {
					t.Errorf("other associated data: %v", err)
				}
				ciphertext[len(ciphertext)-1] ^= 1
				if _, err := a.Decrypt(ciphertext, associated); !errors.Is(err, kms.ErrDecryptionFailed) {
					t.Errorf("changed: %v", err)
				}
			}
		}
		if _, err := a.Encrypt(make([]byte, envelope.MaxPlaintextSize+1), nil); !errors.Is(err, kms.ErrLimitExceeded) {
			t.Errorf("too long: %v", err)
		}
		if _, err := a.Decrypt([]byte("garbage"), nil); !errors.Is(err, kms.ErrMalformedCiphertext) {
			t.Errorf("garbage: %v", err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.EncryptWithContext(ended, []byte("p"), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("an ended context: %v", err)
		}
	})
}

func TestOtherKeysAreRefused(t *testing.T) {
	withKey(t, func(t *testing.T, c *client.Client, key kms.KeyName) {
		other, err := kms.NewKeyName(key.Namespace(), "other")
		must(t, err)
		_, err = c.API().CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: other})
		must(t, err)
		ciphertext, err := tinkaead.New(c, other).Encrypt([]byte("plaintext"), nil)
		must(t, err)
		if _, err := tinkaead.New(c, key).Decrypt(ciphertext, nil); !errors.Is(err, kms.ErrKeyMismatch) {
			t.Errorf("got %v", err)
		}
		if _, err := tinkaead.New(c, kms.KeyName{}).Encrypt(nil, nil); !errors.Is(err, kms.ErrInvalidRequest) {
			t.Errorf("no key: %v", err)
		}
	})
}

func TestEncryptionContext(t *testing.T) {
	withKey(t, func(t *testing.T, c *client.Client, key kms.KeyName) {
		pairs := map[string]string{"service": "orders"}
		bound := tinkaead.New(c, key, tinkaead.WithEncryptionContext(pairs))
		pairs["service"] = "changed afterwards"
		ciphertext, err := bound.Encrypt([]byte("plaintext"), []byte("data"))
		must(t, err)
		if _, err := tinkaead.New(c, key).Decrypt(ciphertext, []byte("data")); !errors.Is(err, kms.ErrDecryptionFailed) {
			t.Errorf("without the context: %v", err)
		}
		// It is what the service's own call makes and reads.
		result, err := c.API().Decrypt(t.Context(), kms.Principal{}, &kms.DecryptRequest{
			Parent: key.Namespace(), Ciphertext: ciphertext,
			Binding: kms.Binding{Context: map[string]string{"service": "orders"}, AAD: []byte("data")},
		})
		must(t, err)
		if string(result.Plaintext) != "plaintext" {
			t.Errorf("got %q", []byte(result.Plaintext))
		}
	})
}

// Tink's envelope encryption, with both of its interfaces and each kind of data key.
func TestTinkEnvelope(t *testing.T) {
	withKey(t, func(t *testing.T, c *client.Client, key kms.KeyName) {
		remote, plaintext := tinkaead.New(c, key), bytes.Repeat([]byte("data"), 100_000)
		for _, template := range []string{"AES256_GCM", "AES128_CTR_HMAC_SHA256", "XCHACHA20_POLY1305"} {
			dek := aead.AES256GCMKeyTemplate()
			switch template {
			case "AES128_CTR_HMAC_SHA256":
				dek = aead.AES128CTRHMACSHA256KeyTemplate()
			case "XCHACHA20_POLY1305":
				dek = aead.XChaCha20Poly1305KeyTemplate()
			}
			plain := aead.NewKMSEnvelopeAEAD2(dek, remote)
			ciphertext, err := plain.Encrypt(plaintext, []byte("row"))
			must(t, err)
			withContext, err := aead.NewKMSEnvelopeAEADWithContext(dek, remote)
			must(t, err)
			got, err := withContext.DecryptWithContext(t.Context(), ciphertext, []byte("row"))
			must(t, err)
			if !bytes.Equal(got, plaintext) {
				t.Errorf("%s: other bytes came back", template)
			}
			if _, err := plain.Decrypt(ciphertext, []byte("another row")); err == nil {
				t.Errorf("%s: opens with other associated data", template)
			}
		}
	})
}

// A Tink keyset encrypted by the service.
func TestTinkKeyset(t *testing.T) {
	withKey(t, func(t *testing.T, c *client.Client, key kms.KeyName) {
		remote := tinkaead.New(c, key)
		handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
		must(t, err)
		var stored bytes.Buffer
		must(t, handle.WriteWithAssociatedData(keyset.NewBinaryWriter(&stored), remote, []byte("keyset of orders")))
		reader := func() keyset.Reader { return keyset.NewBinaryReader(bytes.NewReader(stored.Bytes())) }
		again, err := keyset.ReadWithContext(t.Context(), reader(), remote, []byte("keyset of orders"))
		must(t, err)
		if again.String() != handle.String() {
			t.Error("another keyset came back")
		}
		if _, err := keyset.ReadWithAssociatedData(reader(), remote, []byte("keyset of invoices")); err == nil {
			t.Error("opens with other associated data")
		}
	})
}

// Tink finds the key by its URI.
func TestKMSClient(t *testing.T) {
	withKey(t, func(t *testing.T, c *client.Client, key kms.KeyName) {
		k := tinkaead.NewKMSClient(c, tinkaead.WithEncryptionContext(map[string]string{"by": "uri"}))
		uri := tinkaead.KeyURI(key)
		if uri != "keyholt-kms://namespaces/default/keys/orders" || !k.Supported(uri) || k.Supported("gcp-kms://x") {
			t.Errorf("URI %s", uri)
		}
		for _, bad := range []string{"gcp-kms://x", "keyholt-kms://", "keyholt-kms://orders", uri + "/versions/1"} {
			if _, err := k.GetAEAD(bad); err == nil {
				t.Errorf("%q is the URI of a key", bad)
			}
		}
		remote, err := k.GetAEAD(uri)
		must(t, err)
		ciphertext, err := remote.Encrypt([]byte("plaintext"), nil)
		must(t, err)
		if _, err := tinkaead.New(c, key).Decrypt(ciphertext, nil); !errors.Is(err, kms.ErrDecryptionFailed) {
			t.Errorf("the options of the client were not used: %v", err)
		}

		registry.RegisterKMSClient(k)
		defer registry.ClearKMSClients()
		template, err := aead.CreateKMSEnvelopeAEADKeyTemplate(uri, aead.AES256GCMKeyTemplate())
		must(t, err)
		handle, err := keyset.NewHandle(template)
		must(t, err)
		primitive, err := aead.New(handle)
		must(t, err)
		ciphertext, err = primitive.Encrypt([]byte("plaintext"), []byte("data"))
		must(t, err)
		plaintext, err := primitive.Decrypt(ciphertext, []byte("data"))
		must(t, err)
		if string(plaintext) != "plaintext" {
			t.Errorf("got %q", plaintext)
		}
	})
}
