package josesigner_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/client/josesigner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Signatures of every algorithm verify, and the key is the one that the service returns.
func TestSigners(t *testing.T) {
	keys := make(map[string]kms.Algorithm)
	for _, a := range kms.Algorithms() {
		if a.Purpose() == kms.PurposeAsymmetricSign && a.OutputSize() <= 256 {
			keys[strings.ToLower(a.String())] = a
		}
	}
	if len(keys) < 10 {
		t.Fatalf("only %d algorithms", len(keys))
	}
	must(t, withService(keys, func(ctx context.Context, c *client.Client) error {
		for id, a := range keys {
			key, err := kms.ParseKeyName("namespaces/default/keys/" + id)
			must(t, err)
			s, err := c.Signer(ctx, key)
			must(t, err)
			signer, err := josesigner.NewSigner(s, nil)
			must(t, err)
			signed, err := signer.Sign([]byte("payload"))
			must(t, err)
			compact, err := signed.CompactSerialize()
			must(t, err)

			found, err := c.API().GetPublicKey(ctx, kms.Principal{}, &kms.GetPublicKeyRequest{Key: key, Format: kms.PublicKeyJWK})
			must(t, err)
			var theirs jose.JSONWebKey
			must(t, json.Unmarshal(found.Key, &theirs))
			ours, err := josesigner.PublicKey(s)
			must(t, err)
			if theirs.KeyID != ours.KeyID || theirs.Algorithm != ours.Algorithm || theirs.Use != ours.Use || ours.KeyID == "" {
				t.Errorf("%s: the service's key is %s %s, ours %s %s", a, theirs.KeyID, theirs.Algorithm, ours.KeyID, ours.Algorithm)
			}

			parsed, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(a.JWA())})
			must(t, err)
			if header := parsed.Signatures[0].Header; header.KeyID != theirs.KeyID || header.Algorithm != a.JWA() {
				t.Errorf("%s: header %+v", a, header)
			}
			payload, err := parsed.Verify(&theirs)
			if err != nil || string(payload) != "payload" {
				t.Errorf("%s: %q, %v", a, payload, err)
			}
		}
		return nil
	}))
}

// One signer serves many goroutines, each of which gets the signature of its own payload.
func TestConcurrentTokens(t *testing.T) {
	must(t, withService(map[string]kms.Algorithm{"tokens": kms.AlgorithmECP256SHA256}, func(ctx context.Context, c *client.Client) error {
		key, err := kms.ParseKeyName("namespaces/default/keys/tokens")
		must(t, err)
		s, err := c.Signer(ctx, key)
		must(t, err)
		signer, err := josesigner.NewSigner(s, nil)
		must(t, err)
		var running sync.WaitGroup
		for i := range 32 {
			running.Go(func() {
				for round := range 8 {
					payload := fmt.Appendf(nil, "%d of %d", round, i)
					signed, err := signer.Sign(payload)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := signed.Verify(s.Public()); err != nil || !bytes.Equal(got, payload) {
						t.Errorf("%q: %q, %v", payload, got, err)
					}
				}
			})
		}
		running.Wait()
		ended, cancel := context.WithCancel(ctx)
		cancel()
		signer, err = josesigner.NewSigner(s.WithContext(ended), nil)
		must(t, err)
		if _, err := signer.Sign([]byte("payload")); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
		return nil
	}))
}

func TestOtherAlgorithmsAreRefused(t *testing.T) {
	must(t, withService(map[string]kms.Algorithm{"k": kms.AlgorithmECP256SHA256}, func(ctx context.Context, c *client.Client) error {
		key, err := kms.ParseKeyName("namespaces/default/keys/k")
		must(t, err)
		s, err := c.Signer(ctx, key)
		must(t, err)
		opaque, err := josesigner.New(s)
		must(t, err)
		if _, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: opaque}, nil); !errors.Is(err, jose.ErrUnsupportedAlgorithm) {
			t.Errorf("a signer: %v", err)
		}
		if _, err := opaque.SignPayload([]byte("x"), jose.HS256); !errors.Is(err, jose.ErrUnsupportedAlgorithm) {
			t.Errorf("a payload: %v", err)
		}
		_, err = c.API().DisableKeyVersion(ctx, kms.Principal{}, key.Version(1), "")
		must(t, err)
		if _, err := opaque.SignPayload([]byte("x"), jose.ES256); !errors.Is(err, kms.ErrVersionDisabled) {
			t.Errorf("with a disabled version: %v", err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		bound, err := josesigner.New(s.WithContext(ended))
		must(t, err)
		if _, err := bound.SignPayload([]byte("x"), jose.ES256); !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
		return nil
	}))
}
