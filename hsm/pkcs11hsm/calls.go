package pkcs11hsm

import (
	"sync/atomic"

	"github.com/keyholt/keyholt/hsm"
)

// callCounters are what hsm.Calls is read from.
type callCounters struct{ encryptBlocks, seal, open, random atomic.Uint64 }

// countGCM counts the operations of a crossing with n items: those that are done, and
// after an error the one that had it.
func (c *callCounters) countGCM(opens bool, done, n int, err error) {
	if err != nil {
		done = min(done+1, n)
	}
	operations := uint64(done)
	if opens {
		c.open.Add(operations)
	} else {
		c.seal.Add(operations)
	}
}

// Calls tells what the module was given to run since Open.
func (t *Token) Calls() hsm.Calls {
	return hsm.Calls{
		EncryptBlocks: t.calls.encryptBlocks.Load(),
		Seal:          t.calls.seal.Load(),
		Open:          t.calls.open.Load(),
		Random:        t.calls.random.Load(),
	}
}

// SessionsInUse is how many sessions of the pool are in use at the moment.
func (t *Token) SessionsInUse() int { return t.pool.inUse() }
