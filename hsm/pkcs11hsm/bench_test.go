package pkcs11hsm_test

import (
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

func benchToken(b *testing.B, spec hsm.KeySpec) (*pkcs11hsm.Token, hsm.UID) {
	b.Helper()
	token := softhsmtest.New(b).Open(b)
	if _, err := token.GenerateKey(b.Context(), hsm.UID{1}, "bench", spec); err != nil {
		b.Fatal(err)
	}
	return token, hsm.UID{1}
}

func BenchmarkEncryptBlocks(b *testing.B) {
	token, uid := benchToken(b, hsm.AES256Blocks)
	for _, size := range []int{32, 1024, 32768} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			src, dst := make([]byte, size), make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := token.EncryptBlocks(b.Context(), uid, dst, src); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size/32), "ns/derivation")
		})
	}
}

func BenchmarkGCM(b *testing.B) {
	token, uid := benchToken(b, hsm.AES256GCM)
	for _, n := range []int{1, 64} {
		seals := make([]hsm.SealItem, n)
		for i := range seals {
			seals[i] = hsm.SealItem{Plaintext: make([]byte, 32), AAD: make([]byte, 20)}
		}
		if err := token.Seal(b.Context(), uid, seals); err != nil {
			b.Fatal(err)
		}
		opens := make([]hsm.OpenItem, n)
		for i, s := range seals {
			opens[i] = hsm.OpenItem{Nonce: s.Nonce, Sealed: s.Sealed, AAD: s.AAD}
		}
		b.Run(fmt.Sprintf("seal/items=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := token.Seal(b.Context(), uid, seals); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/item")
		})
		b.Run(fmt.Sprintf("open/items=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := token.Open(b.Context(), uid, opens); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/item")
		})
	}
}

func BenchmarkSign(b *testing.B) {
	token, uid := benchToken(b, hsm.ECDSAP256)
	digest := make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := token.Sign(b.Context(), uid, hsm.ECDSA, digest); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a token and closes it: load, login, sessions, probe.
func BenchmarkOpen(b *testing.B) {
	soft := softhsmtest.New(b)
	for b.Loop() {
		token, err := pkcs11hsm.Open(b.Context(), soft.Config())
		if err != nil {
			b.Fatal(err)
		}
		if err := token.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
