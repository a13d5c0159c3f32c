package client_test

import (
	"crypto"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// Signers share RPCs with a real service: callers of several keys and formats, each of
// which gets its own signature; a bad one fails alone.
func TestSignersShareRPCs(t *testing.T) {
	var count counter
	c, err := client.Dial(t.Context(), startServer(t).unix, count.option())
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	var signers []*client.Signer
	for _, a := range []kms.Algorithm{kms.AlgorithmECP256SHA256, kms.AlgorithmEd25519, kms.AlgorithmRSA2048PSSSHA256} {
		signer, err := c.Signer(t.Context(), makeKey(t, c, a))
		must(t, err)
		signers = append(signers, signer)
	}
	before := count.all.Load()
	const callers, rounds = 48, 8
	var running sync.WaitGroup
	for i := range callers {
		running.Go(func() {
			signer := signers[i%len(signers)]
			for round := range rounds {
				message := fmt.Appendf(nil, "message %d of caller %d", round, i)
				signature, err := signer.SignMessage(nil, message, goodOpts(signer.Algorithm()))
				if err != nil || !verifies(signer.Public(), signer.Algorithm(), message, signature) {
					t.Errorf("caller %d: a signature of %d bytes, %v", i, len(signature), err)
				}
				raw, err := signer.SignMessageAs(t.Context(), message, kms.SignatureRaw)
				if err != nil || len(raw) != signer.Algorithm().OutputSize() {
					t.Errorf("caller %d: a raw signature of %d bytes, %v", i, len(raw), err)
				}
				if _, err := signers[0].Sign(nil, make([]byte, 31), crypto.SHA256); !errors.Is(err, kms.ErrDigestLength) {
					t.Errorf("caller %d: a short digest: %v", i, err)
				}
			}
		})
	}
	running.Wait()
	rpcs, calls := count.all.Load()-before, int64(callers*rounds*3)
	if rpcs > calls/3 || count.batchSigns.Load() == 0 {
		t.Errorf("%d RPCs, %d of them BatchSign, for %d calls", rpcs, count.batchSigns.Load(), calls)
	}
}
