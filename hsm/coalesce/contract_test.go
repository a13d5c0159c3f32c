package coalesce_test

import (
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// TestTokenContract: a coalesced token is a token.
func TestTokenContract(t *testing.T) {
	tests := map[string]struct {
		memory hsmtest.MemoryConfig
		cfg    coalesce.Config
	}{
		"Defaults":    {},
		"ManyCalls":   {cfg: coalesce.Config{MaxCalls: 8}},
		"ShortBlocks": {memory: hsmtest.MemoryConfig{MaxBlockBytes: 32}},
		"AlwaysSlow":  {cfg: coalesce.Config{MaxCalls: 4, SlowCall: 1}},
	}
	var keys hsmtest.RSAKeys
	for name, test := range tests {
		test.memory.RSAKeys = &keys
		t.Run(name, func(t *testing.T) {
			hsmtest.Run(t, func(testing.TB) hsmtest.Fixture {
				memory := hsmtest.NewMemory(test.memory)
				return hsmtest.Fixture{
					Token:   coalesce.NewToken(memory.Open(), test.cfg),
					Another: func(testing.TB) hsm.Token { return coalesce.NewToken(memory.Open(), test.cfg) },
				}
			})
		})
	}
}

// TestTokenBounds: what is not configured comes from the token.
func TestTokenBounds(t *testing.T) {
	faults := hsmtest.NewFaults(hsmtest.NewMemory(hsmtest.MemoryConfig{MaxBlockBytes: 64}).Open())
	token := coalesce.NewToken(faults, coalesce.Config{})
	t.Cleanup(func() { _ = token.Close() })
	if _, err := token.GenerateKey(t.Context(), hot, "", hsm.AES256Blocks); err != nil {
		t.Fatal(err)
	}
	gate := faults.Hold(hsmtest.MethodEncryptBlocks)
	done := make(chan error, 4)
	for range cap(done) {
		go func() { done <- token.EncryptBlocksIf(t.Context(), hot, make([]byte, 32), make([]byte, 32), nil) }()
	}
	for token.Stats().QueueRequests != 3 {
		if err := gate.Await(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	gate.Release()
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if got := token.Stats(); got.Calls != 3 || got.Merged != 2 {
		t.Fatalf("%d calls, %d requests merged; want 3 calls, two of them of one request each", got.Calls, got.Merged)
	}
}
