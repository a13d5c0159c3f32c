package envelope_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

// wrappedKeys returns n wrapped 32-byte data keys under one binding.
func wrappedKeys(b *testing.B, token *softToken, n int) []envelope.SealItem {
	b.Helper()
	bind := mustBinding(b, map[string]string{"tenant": "acme", "purpose": "orders"}, nil)
	items := make([]envelope.SealItem, n)
	for i := range items {
		items[i] = envelope.SealItem{
			Kind: envelope.KindWrappedKey, UID: token.uid, Binding: bind, Plaintext: sequence(byte(i), 32),
		}
	}
	sealAll(b, token, items)
	return items
}

func perItem(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/item")
}

// BenchmarkOpenBatch is the host's work for a batch of unwraps: parse, derivation blocks, opening. The token's share is
// restored from a copy and is not part of it.
func BenchmarkOpenBatch(b *testing.B) {
	for _, n := range []int{1, 64, 1024, 4096} {
		b.Run(fmt.Sprintf("items=%d", n), func(b *testing.B) {
			token := testToken(b)
			sealed := wrappedKeys(b, token, n)
			m := token.maskKey()
			blobs := make([]envelope.Blob, n)
			items := make([]envelope.OpenItem, n)
			blocks := make([]byte, 0, 32*n)
			var answer, slab []byte
			parseAll := func() {
				for i, s := range sealed {
					if err := blobs[i].Parse(s.Blob); err != nil {
						b.Fatal(err)
					}
					items[i] = envelope.OpenItem{Blob: &blobs[i], Binding: s.Binding}
				}
			}
			parseAll()
			answer, err := envelope.AppendOpenBlocks(nil, m, items)
			if err != nil {
				b.Fatal(err)
			}
			token.encryptBlocks(answer)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				parseAll()
				if blocks, err = envelope.AppendOpenBlocks(blocks[:0], m, items); err != nil {
					b.Fatal(err)
				}
				copy(blocks, answer)
				if slab, err = envelope.OpenItems(slab[:0], blocks, items); err != nil {
					b.Fatal(err)
				}
			}
			perItem(b, n)
			if len(slab) != 32*n {
				b.Fatalf("%d bytes of keys", len(slab))
			}
		})
	}
}

// BenchmarkSealBatch is the host's work for a batch of new wrapped keys. Nonces are fresh, so the software token's two
// blocks per item are part of it.
func BenchmarkSealBatch(b *testing.B) {
	for _, n := range []int{1, 1024} {
		b.Run(fmt.Sprintf("items=%d", n), func(b *testing.B) {
			token := testToken(b)
			items := wrappedKeys(b, token, n)
			m := token.maskKey()
			var blocks, slab []byte
			var err error
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if blocks, err = envelope.AppendSealBlocks(blocks[:0], m, items); err != nil {
					b.Fatal(err)
				}
				token.encryptBlocks(blocks)
				if slab, err = envelope.SealItems(slab[:0], blocks, items); err != nil {
					b.Fatal(err)
				}
			}
			perItem(b, n)
		})
	}
}

// BenchmarkOpenDerived opens one 32-byte data key: key expansion, GHASH set-up, open.
func BenchmarkOpenDerived(b *testing.B) {
	token := testToken(b)
	items := wrappedKeys(b, token, 1)
	blob, err := envelope.Parse(items[0].Blob)
	if err != nil {
		b.Fatal(err)
	}
	key := *token.deriveKey(blob.Nonce)
	body := slices.Concat(blob.Nonce, blob.Sealed)
	aad := items[0].Binding.AppendAAD(nil, blob.Header())
	dst := make([]byte, 0, 32)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		kx := key
		if _, err := envelope.OpenDerived(dst, &kx, body, aad); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	p := wrappedKeys(b, testToken(b), 1)[0].Blob
	b.ReportAllocs()
	for range b.N {
		if _, err := envelope.Parse(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewBinding(b *testing.B) {
	context := map[string]string{"tenant": "acme", "purpose": "orders"}
	b.ReportAllocs()
	for range b.N {
		if _, err := envelope.NewBinding(context, []byte("row 42")); err != nil {
			b.Fatal(err)
		}
	}
}
