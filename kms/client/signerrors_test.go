package client_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// Whether a call travels alone or with others, it fails as a Sign of the API does: with the
// same sentinel and the same message, about the same field.
func TestSignerErrorsAreThoseOfTheAPI(t *testing.T) {
	var count counter
	c, err := client.Dial(t.Context(), startServer(t).unix, count.option())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	ctx := t.Context()
	ec, ed := makeKey(t, c, kms.AlgorithmECP256SHA256), makeKey(t, c, kms.AlgorithmEd25519)
	signer := func(version kms.VersionName) *client.Signer {
		signer, err := c.VersionSigner(ctx, version)
		must(t, err)
		return signer
	}
	good, edSigner := signer(ec.Version(1)), signer(ed.Version(1))
	revoked := func() *client.Signer {
		_, err := c.API().RotateKey(ctx, kms.Principal{}, &kms.RotateKeyRequest{Name: ec})
		must(t, err)
		signer := signer(ec.Version(2))
		_, err = c.API().RevokeKeyVersion(ctx, kms.Principal{}, &kms.RevokeRequest{
			Name: ec.Version(2), Reason: "leaked", DataLossAccepted: true,
		})
		must(t, err)
		return signer
	}()
	disabled := func() *client.Signer {
		_, err := c.API().RotateKey(ctx, kms.Principal{}, &kms.RotateKeyRequest{Name: ec})
		must(t, err)
		signer := signer(ec.Version(3))
		_, err = c.API().SetPrimaryKeyVersion(ctx, kms.Principal{}, &kms.SetPrimaryRequest{Name: ec.Version(1)})
		must(t, err)
		_, err = c.API().DisableKeyVersion(ctx, kms.Principal{}, ec.Version(3), "test")
		must(t, err)
		return signer
	}()
	digest := make([]byte, 32)
	calls := map[string]struct {
		signer *client.Signer
		data   []byte
		opts   crypto.SignerOpts
		want   error
	}{
		"a revoked version":  {revoked, digest, crypto.SHA256, kms.ErrVersionRevoked},
		"a disabled version": {disabled, digest, crypto.SHA256, kms.ErrVersionDisabled},
		"no digest":          {good, nil, crypto.SHA256, kms.ErrInvalidRequest},
		"a short digest":     {good, digest[1:], crypto.SHA256, kms.ErrDigestLength},
		"a long digest":      {good, make([]byte, 65), crypto.SHA256, kms.ErrLimitExceeded},
		"a huge digest":      {good, make([]byte, 3<<20), crypto.SHA256, kms.ErrLimitExceeded},
		"no message":         {edSigner, nil, crypto.Hash(0), kms.ErrInvalidRequest},
	}
	api := make(map[string]error)
	for name, call := range calls {
		r := &kms.SignRequest{Version: call.signer.Version(), Digest: call.data, DigestHash: crypto.SHA256}
		if call.opts == crypto.Hash(0) {
			r = &kms.SignRequest{Version: call.signer.Version(), Message: call.data}
		}
		_, api[name] = c.API().Sign(ctx, kms.Principal{}, r)
	}
	check := func(how string) {
		for name, call := range calls {
			signature, err := call.signer.Sign(nil, call.data, call.opts)
			if !errors.Is(err, call.want) || !errors.Is(api[name], call.want) || signature != nil {
				t.Errorf("%s, %s: %v; of the API %v", name, how, err, api[name])
				continue
			}
			got, want := errorParts(err), errorParts(api[name])
			if got != want {
				t.Errorf("%s, %s: %s; of the API %s", name, how, got, want)
			}
		}
	}
	check("alone")
	var busy sync.WaitGroup
	ended, end := context.WithCancel(ctx)
	for range 8 {
		busy.Go(func() {
			for ended.Err() == nil {
				if _, err := good.Sign(nil, digest, crypto.SHA256); err != nil {
					t.Errorf("a good call: %v", err)
				}
			}
		})
	}
	for range 20 {
		check("with others")
	}
	end()
	busy.Wait()
	if count.batchSigns.Load() == 0 {
		t.Error("no BatchSign")
	}
}

// errorParts are what programs see of an error.
func errorParts(err error) string {
	e, ok := errors.AsType[*kms.Error](err)
	if !ok {
		return err.Error()
	}
	fields := make([]string, 0, len(e.Violations))
	for _, v := range e.Violations {
		fields = append(fields, v.Field)
	}
	slices.Sort(fields)
	return fmt.Sprintf("%v: %s, fields %q", e.Sentinel, e.Message, fields)
}

// Messages as long as they may be, by many callers at once: the service takes each batch.
func TestLongestMessagesShareRPCs(t *testing.T) {
	var count counter
	c, err := client.Dial(t.Context(), startServer(t).unix, count.option())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	signer, err := c.Signer(t.Context(), makeKey(t, c, kms.AlgorithmEd25519))
	must(t, err)
	var running sync.WaitGroup
	for i := range 150 {
		running.Go(func() {
			message := make([]byte, kms.MaxMessage)
			message[0] = byte(i)
			for range 2 {
				signature, err := signer.Sign(nil, message, crypto.Hash(0))
				if err != nil || !verifies(signer.Public(), signer.Algorithm(), message, signature) {
					t.Errorf("a signature of %d bytes, %v", len(signature), err)
				}
			}
		})
	}
	running.Wait()
	if count.batchSigns.Load() == 0 {
		t.Error("no BatchSign")
	}
}

// Callers that leave at any time and a client that is closed while calls wait and are under
// way: those that are left fail as ended.
func TestCloseWhileSigning(t *testing.T) {
	s := startServer(t)
	for range 5 {
		c, err := client.Dial(t.Context(), s.unix)
		must(t, err)
		key := nameOf(t, kms.AlgorithmECP256SHA256)
		if _, err := c.API().GetKey(t.Context(), kms.Principal{}, key); err != nil {
			makeKey(t, c, kms.AlgorithmECP256SHA256)
		}
		signer, err := c.Signer(t.Context(), key)
		must(t, err)
		var running sync.WaitGroup
		signed := make(chan struct{}, 1)
		for range 64 {
			running.Go(func() {
				for {
					_, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256)
					if err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Errorf("got %v", err)
						}
						return
					}
					select {
					case signed <- struct{}{}:
					default:
					}
				}
			})
		}
		<-signed
		must(t, c.Close())
		running.Wait()
		_, apiErr := c.API().Sign(t.Context(), kms.Principal{}, &kms.SignRequest{Version: signer.Version(), Digest: make([]byte, 32)})
		_, err = signer.Sign(nil, make([]byte, 32), crypto.SHA256)
		if !errors.Is(err, context.Canceled) || !errors.Is(apiErr, context.Canceled) {
			t.Errorf("of a closed client: %v; of the API %v", err, apiErr)
		}
	}
}
