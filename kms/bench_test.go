package kms_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/keyholt/keyholt/hsm"
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

// BenchmarkSign is a signature with P-256, against what the token alone needs for it.
func BenchmarkSign(b *testing.B) {
	w := newKeyWorld(b, func(c *kms.Config) { c.Auditor = noAuditor{} })
	name := w.createKey("sign", kms.AlgorithmECP256SHA256)
	uid := w.uid(name.Version(1))
	digest := make([]byte, 32)
	if _, err := w.service.Sign(b.Context(), admin, &kms.SignRequest{Key: name, Digest: digest}); err != nil {
		b.Fatal(err)
	}
	b.Run("token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.faults.Sign(b.Context(), uid, hsm.ECDSA, digest); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("service", func(b *testing.B) {
		b.ReportAllocs()
		r := &kms.SignRequest{Key: name, Digest: digest}
		for b.Loop() {
			if _, err := w.service.Sign(b.Context(), admin, r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("batch of 1024", func(b *testing.B) {
		b.ReportAllocs()
		r := &kms.BatchSignRequest{Parent: name.Namespace(), Key: name, Items: make([]kms.SignItem, 1024)}
		for i := range r.Items {
			r.Items[i].Digest = digest
		}
		for b.Loop() {
			if _, err := w.service.BatchSign(b.Context(), admin, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}
