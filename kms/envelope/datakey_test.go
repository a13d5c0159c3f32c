package envelope_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/cryptotest"

	"github.com/keyholt/keyholt/kms/envelope"
)

func TestCheckDataKeySize(t *testing.T) {
	for size, ok := range map[int]bool{-1: false, 0: false, 15: false, 16: true, 32: true, 64: true, 65: false} {
		err := envelope.CheckDataKeySize(size)
		if ok && err != nil || !ok && !errors.Is(err, envelope.ErrDataKeySize) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// A token whose generator is broken must not show through: equal inputs give unrelated outputs, at every length around
// the size in which the operating system's bytes are fetched.
func TestMixRandom(t *testing.T) {
	for _, n := range []int{32, 511, 512, 513, 1024, 4096 * 32} {
		a, b := bytes.Repeat([]byte{0xaa}, n), bytes.Repeat([]byte{0xaa}, n)
		envelope.MixRandom(a)
		envelope.MixRandom(b)
		for i := 0; i+16 <= n; i += 16 {
			x, y := a[i:i+16], b[i:i+16]
			if bytes.Equal(x, y) || bytes.Equal(x, bytes.Repeat([]byte{0xaa}, 16)) || bytes.Equal(x, make([]byte, 16)) {
				t.Fatalf("%d bytes: block at %d is %x and %x", n, i, x, y)
			}
		}
		tail := a[n-16:]
		if bytes.Equal(tail, bytes.Repeat([]byte{0xaa}, 16)) {
			t.Errorf("%d bytes: the end is unchanged", n)
		}
	}
	envelope.MixRandom(nil)
}

// Both sources count: the result is the token's bytes XOR the operating system's.
func TestMixRandomIsXOR(t *testing.T) {
	const n = 1300
	cryptotest.SetGlobalRandom(t, 42)
	system := make([]byte, n)
	envelope.MixRandom(system)
	cryptotest.SetGlobalRandom(t, 42)
	token := sequence(1, n)
	mixed := bytes.Clone(token)
	envelope.MixRandom(mixed)
	for i := range mixed {
		mixed[i] ^= token[i]
	}
	requireEqual(t, "what was mixed in", mixed, system)
}
