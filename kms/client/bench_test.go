package client_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// BenchmarkUnwrap compares calls that are merged with one RPC per call, from 64
// goroutines against a service in this process, over a unix socket and over TLS.
func BenchmarkUnwrap(b *testing.B) {
	s := startServer(b)
	for _, transport := range []struct {
		name    string
		profile client.Profile
	}{{"unix", s.unix}, {"tls", s.admin}} {
		for _, pairs := range []int{0, 2} {
			binding := kms.Binding{}
			if pairs > 0 {
				binding.Context = map[string]string{"table": "orders", "purpose": "storage"}
			}
			c := dial(b, transport.profile)
			key := createKey(b, c, fmt.Sprintf("%s-%d", transport.name, pairs))
			keys, err := c.DataKeys(key)
			must(b, err)
			generated, err := keys.Generate(b.Context(), binding)
			must(b, err)
			run := func(kind string, unwrap func(context.Context) (kms.Secret, error)) {
				b.Run(fmt.Sprintf("%s/context=%d/%s", transport.name, pairs, kind), func(b *testing.B) {
					b.SetParallelism(32) // times GOMAXPROCS
					b.ReportAllocs()
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							if _, err := unwrap(b.Context()); err != nil {
								b.Error(err)
								return
							}
						}
					})
				})
			}
			run("unary", func(ctx context.Context) (kms.Secret, error) {
				results, err := c.API().UnwrapDataKeys(ctx, kms.Principal{}, &kms.UnwrapDataKeysRequest{
					Parent: key.Namespace(), Key: key, Binding: binding,
					Items: []kms.DataKeyItem{{Wrapped: generated.Wrapped}},
				})
				if err != nil {
					return nil, err
				}
				return results[0].DataKey, results[0].Err
			})
			run("coalesced", func(ctx context.Context) (kms.Secret, error) {
				return keys.Unwrap(ctx, generated.Wrapped, binding)
			})
		}
	}
}

func createKey(t testing.TB, c *client.Client, id string) kms.KeyName {
	t.Helper()
	profile := c.Profile()
	key, err := kms.NewKeyName(profile.DefaultNamespace(), id)
	must(t, err)
	_, err = c.API().CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: key})
	must(t, err)
	return key
}
