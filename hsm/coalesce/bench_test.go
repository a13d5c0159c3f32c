package coalesce_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// benchToken returns an in-memory token with n keys.
func benchToken(b *testing.B, n int) (*hsmtest.MemoryToken, []hsm.UID) {
	b.Helper()
	token := hsmtest.NewMemory(hsmtest.MemoryConfig{}).Open()
	b.Cleanup(func() { _ = token.Close() })
	keys := make([]hsm.UID, n)
	for i := range keys {
		binary.BigEndian.PutUint64(keys[i][:], uint64(i)*0x9e3779b97f4a7c15) // spread as random UIDs are
		if _, err := token.GenerateKey(b.Context(), keys[i], "", hsm.AES256Blocks); err != nil {
			b.Fatal(err)
		}
	}
	return token, keys
}

// paths are the token itself and the same behind a Coalescer.
func paths(token hsm.BlockCipher) map[string]hsm.BlockCipher {
	return map[string]hsm.BlockCipher{"direct": token, "coalesced": coalesce.New(token, coalesce.Config{})}
}

// BenchmarkUncontended is one caller: what the Coalescer costs where it has nothing
// to do.
func BenchmarkUncontended(b *testing.B) {
	token, keys := benchToken(b, 1)
	for name, blocks := range paths(token) {
		b.Run(name, func(b *testing.B) {
			dst, src := make([]byte, 32), make([]byte, 32)
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if err := blocks.EncryptBlocks(ctx, keys[0], dst, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCallers is many callers of one key and of many, on a token whose calls
// take 10 µs of processor time, as those of SoftHSM2 do.
func BenchmarkCallers(b *testing.B) {
	token, keys := benchToken(b, 1000)
	busy := cipherFunc(func(ctx context.Context, key hsm.UID, dst, src []byte) error {
		for begin := time.Now(); time.Since(begin) < 10*time.Microsecond; {
			continue
		}
		return token.EncryptBlocks(ctx, key, dst, src)
	})
	for _, callers := range []int{8, 64, 512} {
		for _, n := range []int{1, 10, 1000} {
			for name, blocks := range paths(busy) {
				b.Run(fmt.Sprintf("callers=%d/keys=%d/%s", callers, n, name), func(b *testing.B) {
					benchCallers(b, blocks, callers, keys[:n])
				})
			}
		}
	}
}

// benchCallers shares b.N requests among callers, each on a goroutine of its own
// that ends with it, as a server's do.
func benchCallers(b *testing.B, blocks hsm.BlockCipher, callers int, keys []hsm.UID) {
	ctx := b.Context()
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			dst, src := make([]byte, 32), make([]byte, 32)
			done := make(chan error)
			for i := c; i < b.N; i += callers {
				go func() { done <- blocks.EncryptBlocks(ctx, keys[(i*7919)%len(keys)], dst, src) }()
				if err := <-done; err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if c, ok := blocks.(*coalesce.Coalescer); ok {
		s := c.Stats()
		b.ReportMetric(float64(s.Requests)/float64(s.Calls), "requests/call")
	}
}
