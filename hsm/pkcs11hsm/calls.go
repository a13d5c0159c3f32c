package pkcs11hsm

import (
	"sync/atomic"

	"github.com/keyholt/keyholt/hsm"
)

// callCounters are what hsm.Calls is read from.
type callCounters struct {
	encryptBlocks, seal, open, sign, mac, decryptOAEP, random atomic.Uint64
}

// operations is how many operations a crossing with n items was: those that are done, and
// after an error the one that had it.
func operations(done, n int, err error) uint64 {
	if err != nil {
		done = min(done+1, n)
	}
	return uint64(done)
}

// countGCM counts the operations of a crossing with n items.
func (c *callCounters) countGCM(opens bool, done, n int, err error) {
	if opens {
		c.open.Add(operations(done, n, err))
	} else {
		c.seal.Add(operations(done, n, err))
	}
}

// Calls tells what the module was given to run since Open.
func (t *Token) Calls() hsm.Calls {
	return hsm.Calls{
		EncryptBlocks: t.calls.encryptBlocks.Load(),
		Seal:          t.calls.seal.Load(),
		Open:          t.calls.open.Load(),
		Sign:          t.calls.sign.Load(),
		MAC:           t.calls.mac.Load(),
		DecryptOAEP:   t.calls.decryptOAEP.Load(),
		Random:        t.calls.random.Load(),
	}
}

// SessionsInUse is how many sessions of the pool are in use at the moment.
func (t *Token) SessionsInUse() int { return t.pool.inUse() }
