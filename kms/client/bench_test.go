package client_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// BenchmarkUnwrap compares calls that are merged with one RPC per call, against a service
// in this process. An operation is one call of one of the callers.
func BenchmarkUnwrap(b *testing.B) {
	s := startServer(b)
	twoPairs := kms.Binding{Context: map[string]string{"table": "orders", "purpose": "storage"}}
	for i, test := range []struct {
		name    string
		profile client.Profile
		binding kms.Binding
		callers int
	}{
		{"unix", s.unix, kms.Binding{}, 1},
		{"unix", s.unix, kms.Binding{}, 64},
		{"unix", s.unix, kms.Binding{}, 512},
		{"unix+context", s.unix, twoPairs, 64},
		{"tls", s.admin, kms.Binding{}, 64},
		{"tls+context", s.admin, twoPairs, 64},
	} {
		c := dial(b, test.profile)
		keys := dataKeysOf(b, c, fmt.Sprintf("key-%d", i))
		generated, err := keys.Generate(b.Context(), test.binding)
		must(b, err)
		name := fmt.Sprintf("%s/callers=%d", test.name, test.callers)
		concurrently(b, name+"/unary", test.callers, func(ctx context.Context) error {
			results, err := c.API().UnwrapDataKeys(ctx, kms.Principal{}, &kms.UnwrapDataKeysRequest{
				Parent: keys.Key().Namespace(), Key: keys.Key(), Binding: test.binding,
				Items: []kms.DataKeyItem{{Wrapped: generated.Wrapped}},
			})
			if err != nil {
				return err
			}
			return results[0].Err
		})
		concurrently(b, name+"/coalesced", test.callers, func(ctx context.Context) error {
			_, err := keys.Unwrap(ctx, generated.Wrapped, test.binding)
			return err
		})
	}
}

// BenchmarkCached is an unwrap that makes no call.
func BenchmarkCached(b *testing.B) {
	s := startServer(b)
	c := dial(b, s.unix)
	keys := dataKeysOf(b, c, "orders", client.WithUnwrapCache(client.CacheLimits{MaxUses: 1 << 20}))
	binding := kms.Binding{Context: map[string]string{"table": "orders"}}
	generated, err := keys.Generate(b.Context(), binding)
	must(b, err)
	concurrently(b, "callers=1", 1, func(ctx context.Context) error {
		_, err := keys.Unwrap(ctx, generated.Wrapped, binding)
		return err
	})
}

// concurrently has many callers share the benchmark's operations.
func concurrently(b *testing.B, name string, callers int, call func(context.Context) error) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		var next atomic.Int64
		var running sync.WaitGroup
		for range callers {
			running.Go(func() {
				for next.Add(1) <= int64(b.N) {
					if err := call(b.Context()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		running.Wait()
	})
}
