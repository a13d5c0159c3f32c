package softhsmtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

// BenchmarkUnwrapOverTheWire is the whole path on one machine, client included: mutual
// TLS, SoftHSM2, the audit log on disk. It is for profiles; package bench compares.
func BenchmarkUnwrapOverTheWire(b *testing.B) {
	for _, size := range []int{1, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := overTheWire(b, onSoftHSM(b))
			namespace, err := kms.NewNamespaceName(kms.DefaultNamespace)
			if err != nil {
				b.Fatal(err)
			}
			key, err := kms.NewKeyName(namespace, "orders")
			if err != nil {
				b.Fatal(err)
			}
			if _, err := f.Admin.API.CreateKey(b.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: key}); err != nil {
				b.Fatal(err)
			}
			keys, err := f.Admin.API.GenerateDataKeys(b.Context(), kms.Principal{}, &kms.GenerateDataKeysRequest{Key: key, Count: size})
			if err != nil {
				b.Fatal(err)
			}
			request := &kms.UnwrapDataKeysRequest{Parent: namespace, Items: make([]kms.DataKeyItem, size)}
			for i := range keys {
				request.Items[i].Wrapped = keys[i].Wrapped
			}
			b.ReportAllocs()
			b.SetParallelism(2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := f.Admin.API.UnwrapDataKeys(b.Context(), kms.Principal{}, request); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "unwraps/s")
		})
	}
}

// BenchmarkSignOverTheWire is the same for signatures, one a request.
func BenchmarkSignOverTheWire(b *testing.B) {
	c := serveTLS(b, onSoftHSM(b))("admin")
	for _, a := range []kms.Algorithm{kms.AlgorithmECP256SHA256, kms.AlgorithmRSA2048PKCS1SHA256} {
		b.Run(a.String(), func(b *testing.B) {
			key, err := kms.ParseKeyName("namespaces/default/keys/" + strings.ToLower(a.String()))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := c.API().CreateKey(b.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: key, Algorithm: a}); err != nil &&
				!errors.Is(err, kms.ErrKeyExists) {
				b.Fatal(err)
			}
			request := &kms.SignRequest{Key: key, Digest: make([]byte, 32), DigestHash: a.Hash()}
			b.ReportAllocs()
			b.SetParallelism(16)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.API().Sign(b.Context(), kms.Principal{}, request); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signatures/s")
		})
	}
}
