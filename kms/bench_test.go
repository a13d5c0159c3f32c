package kms_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// noAuditor forgets events: the benchmarks measure the service, not a disk.
type noAuditor struct{}

func (noAuditor) Record(context.Context, *kms.Event) error { return nil }

// BenchmarkUnwrap is the service's own part of an unwrap, on an in-memory token: what
// remains is lookup, authorisation, state checks, the host's AES-GCM and bookkeeping.
func BenchmarkUnwrap(b *testing.B) {
	for _, profile := range []kms.Profile{kms.ProfileDerived, kms.ProfileStrict} {
		for _, size := range []int{1, 16, 1024, 4096} {
			b.Run(fmt.Sprintf("%s/%d", profile, size), func(b *testing.B) {
				w := newWorld(b, hsmtest.MemoryConfig{}, func(c *kms.Config) {
					c.Auditor = noAuditor{}
					c.Logger = slog.New(slog.DiscardHandler)
				})
				name := w.create("orders", profile)
				keys, err := w.service.GenerateDataKeys(b.Context(), admin, &kms.GenerateDataKeysRequest{Key: name, Count: size})
				if err != nil {
					b.Fatal(err)
				}
				request := &kms.UnwrapDataKeysRequest{Parent: name.Namespace(), Items: make([]kms.DataKeyItem, size)}
				for i := range keys {
					request.Items[i].Wrapped = keys[i].Wrapped
				}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := w.service.UnwrapDataKeys(b.Context(), admin, request); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/item")
			})
		}
	}
}
