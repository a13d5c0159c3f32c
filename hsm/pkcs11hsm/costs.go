package pkcs11hsm

import (
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// firstRunCost is assumed of an item before any was measured.
	firstRunCost = 500 * time.Microsecond
	// costWindow is how many crossings the least cost is that of: those of the window
	// under way and of the one before.
	costWindow = 64
)

// costs is how long items take, by the specification of their keys. Measurements that meet
// may lose one another; none of them matters.
type costs [256]cost

type cost struct {
	average       atomic.Int64 // nanoseconds, of which the latest is a quarter; 0: none
	least, before atomic.Int64 // nanoseconds, of two windows; 0: none
	seen          atomic.Int64 // crossings
}

// mean is a moving mean of the cost of one item, in which is what its caller waited for a
// core meanwhile.
func (c *costs) mean(spec hsm.KeySpec) time.Duration {
	if known := c[spec].average.Load(); known > 0 {
		return time.Duration(known)
	}
	return firstRunCost
}

// least is the least cost of one item in the last crossings, which is what the token itself
// takes; 0 if none was measured.
func (c *costs) least(spec hsm.KeySpec) time.Duration {
	least, before := c[spec].least.Load(), c[spec].before.Load()
	if before > 0 {
		least = min(least, before)
	}
	return time.Duration(least)
}

// learn takes in what an item of a crossing took.
func (c *costs) learn(spec hsm.KeySpec, took time.Duration) {
	of := &c[spec]
	of.average.Store((3*int64(c.mean(spec)) + int64(took)) / 4)
	least := of.least.Load()
	if of.seen.Add(1)%costWindow == 0 {
		of.before.Store(least)
		least = 0
	}
	if least == 0 || int64(took) < least {
		of.least.Store(int64(took))
	}
}
