package pkcs11hsm

import (
	"crypto/ecdsa"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/keyholt/keyholt/hsm"
)

// TestCandidates: the public key is among those that a signature can be of, and all of them
// verify it.
func TestCandidates(t *testing.T) {
	for _, spec := range []hsm.KeySpec{hsm.ECDSAP256, hsm.ECDSAP384, hsm.ECDSAP521} {
		for range 20 {
			private, err := ecdsa.GenerateKey(curveOf(spec), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			digest := randomInput(spec, hsm.ECDSA)
			r, s, err := ecdsa.Sign(rand.Reader, private, digest)
			if err != nil {
				t.Fatal(err)
			}
			signature := append(r.FillBytes(make([]byte, spec.Size())), s.FillBytes(make([]byte, spec.Size()))...)
			found := candidates(curveOf(spec), digest, signature)
			if !slices.ContainsFunc(found, func(key *ecdsa.PublicKey) bool { return key.Equal(&private.PublicKey) }) {
				t.Fatalf("%s: not among %d candidates", spec, len(found))
			}
			for _, key := range found {
				if !verifies(key, hsm.ECDSA, digest, signature) {
					t.Fatalf("%s: a candidate does not verify the signature", spec)
				}
			}
		}
		if found := candidates(curveOf(spec), make([]byte, 32), make([]byte, 2*spec.Size())); found != nil {
			t.Errorf("%s: %d candidates for a signature of zeros", spec, len(found))
		}
	}
}
