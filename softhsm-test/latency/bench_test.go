package latency_test

import (
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
	"github.com/keyholt/keyholt/softhsm-test/latency"
)

// BenchmarkDelay shows what a call takes behind the module with a delay of 100
// microseconds, beside calls that are not delayed: the difference is the delay.
func BenchmarkDelay(b *testing.B) {
	setEnv(b, latency.Config{
		Module: softhsmtest.Require(b), Delay: 100 * time.Microsecond, Calls: []string{"C_GenerateRandom"},
	})
	token := softhsmtest.NewVia(b, build(b)).Open(b)
	uid := hsm.UID{1}
	if _, err := token.GenerateKey(b.Context(), uid, "delay", hsm.AES256Blocks); err != nil {
		b.Fatal(err)
	}
	block := make([]byte, 32)
	b.Run("EncryptBlocks", func(b *testing.B) {
		for b.Loop() {
			if err := token.EncryptBlocks(b.Context(), uid, block, block); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Random", func(b *testing.B) {
		for b.Loop() {
			if err := token.Random(b.Context(), block); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("RandomInParallel", func(b *testing.B) {
		b.SetParallelism(2)
		b.RunParallel(func(pb *testing.PB) {
			own := make([]byte, 32)
			for pb.Next() {
				if err := token.Random(b.Context(), own); err != nil {
					b.Error(err)
				}
			}
		})
	})
}
