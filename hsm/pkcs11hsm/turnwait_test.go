package pkcs11hsm

import (
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Short crossings of a fast token take turns, and nothing else does.
func TestTurnWait(t *testing.T) {
	token := new(Token)
	check := func(when string, size int, want time.Duration) {
		t.Helper()
		if got := token.turnWait(size); got != want {
			t.Errorf("%s, %d bytes: waits %v, want %v", when, size, got, want)
		}
	}
	check("before anything was measured", 32, 0)
	learn := func(n int, cost time.Duration) {
		for range n {
			token.costs.learn(hsm.AES256Blocks, cost)
		}
	}
	learn(20, 10*time.Microsecond)
	check("a fast token", 32, longestTurnWait)
	check("a fast token", shortInput, longestTurnWait)
	check("a fast token", shortInput+hsm.BlockSize, 0)
	learn(1, longestTurnWait)
	check("after one wait in vain", 32, 0)
	learn(1, 10*time.Microsecond)
	check("after the next", 32, longestTurnWait)
	learn(20, time.Millisecond)
	check("a slow token", 32, 0)
}
