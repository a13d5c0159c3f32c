package main

import (
	"crypto/aes"
	"testing"

	"github.com/keyholt/keyholt/kms/envelope"
)

// The profile beside this file makes the compiler keep the AES-GCM state of an unwrap on the stack. It is in effect here
// as in the program; when it no longer is, unwrapping takes half as long again, and nothing else would tell.
func TestUnwrappingAllocatesNothingPerKey(t *testing.T) {
	const n = 64
	block, err := aes.NewCipher(make([]byte, 32)) // stands for the key in the token
	if err != nil {
		t.Fatal(err)
	}
	derive := func(blocks []byte) {
		for ; len(blocks) > 0; blocks = blocks[envelope.BlockSize:] {
			block.Encrypt(blocks, blocks)
		}
	}
	var l [envelope.BlockSize]byte
	derive(l[:])
	mask := envelope.NewMaskKey(&l)
	sealed := make([]envelope.SealItem, n)
	for i := range sealed {
		sealed[i] = envelope.SealItem{Kind: envelope.KindWrappedKey, Plaintext: make([]byte, 32)}
	}
	blocks, err := envelope.AppendSealBlocks(nil, &mask, sealed)
	if err != nil {
		t.Fatal(err)
	}
	derive(blocks)
	if _, err := envelope.SealItems(nil, blocks, sealed); err != nil {
		t.Fatal(err)
	}
	items := make([]envelope.OpenItem, n)
	for i := range items {
		blob, err := envelope.Parse(sealed[i].Blob)
		if err != nil {
			t.Fatal(err)
		}
		items[i].Blob = &blob
	}
	keys := make([]byte, 0, 32*n)
	allocations := testing.AllocsPerRun(10, func() {
		blocks, err := envelope.AppendOpenBlocks(blocks[:0], &mask, items)
		if err != nil {
			t.Fatal(err)
		}
		derive(blocks)
		opened, err := envelope.OpenItems(keys, blocks, items)
		if err != nil || len(opened) != 32*n {
			t.Fatalf("%d bytes of keys, %v", len(opened), err)
		}
	})
	if allocations > n/2 {
		t.Errorf("%v allocations for a batch of %d: openGCM of kms/envelope says how it should be", allocations, n)
	}
}
