package kms

import (
	"bytes"
	"crypto/rand"
	"encoding/asn1"
	"math/big"
	"testing"
)

// Numbers that begin with zeros or with a bit that looks like a sign are encoded as package
// asn1 encodes them.
func TestDERSignatures(t *testing.T) {
	t.Parallel()
	beginnings := [][]byte{nil, {0x80}, {0x7f}, {0, 0x80}, {0, 0x7f}, {0, 0, 0}, {0xff}, bytes.Repeat([]byte{0}, 66)}
	for _, size := range []int{32, 48, 66} {
		for _, ofR := range beginnings {
			for _, ofS := range beginnings {
				raw := make([]byte, 2*size)
				rand.Read(raw)
				copy(raw[:size], ofR)
				copy(raw[size:], ofS)
				got, err := derSignature(raw)
				if err != nil {
					t.Fatal(err)
				}
				want, err := asn1.Marshal(struct{ R, S *big.Int }{
					new(big.Int).SetBytes(raw[:size]), new(big.Int).SetBytes(raw[size:]),
				})
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) || len(got) > len(raw)+maxDEROverhead {
					t.Errorf("%x is encoded as\n%x, want\n%x", raw, got, want)
				}
			}
		}
	}
}
