package lease

import (
	"fmt"
	"time"
)

// ID names one lease from its join to its end. A process that joins again after a
// lapse does so under the next Join, and a process that starts again is another
// Instance, so an ID that has lost its lease never serves again. Everything that is
// decided about an ID therefore stays true.
type ID struct {
	// Instance names the process. It is drawn at random when the process starts.
	Instance string
	// Join counts the attempts of that process to join, from 1.
	Join uint64
}

// String returns instance/join, for logs.
func (id ID) String() string { return fmt.Sprintf("%s/%d", id.Instance, id.Join) }

// Row is a lease as the store holds it. It holds no time: whoever reads it measures
// by its own clock for how long Counter does not move.
type Row struct {
	ID ID
	// Counter changes with every committed renewal and never takes an old value again, not
	// even where the store has lost renewals: it is the number of the transaction among all
	// that the process has begun.
	Counter uint64
	// Applied is a revision that the replica has acknowledged: it has applied every
	// change up to it, and each operation that it checked under an older snapshot has
	// handed its result over or was refused.
	Applied uint64
	// Duration is for how long a renewal is good. It is fixed for an Instance.
	Duration time.Duration
}

// shortestMargin is the margin of leases of up to a second.
const shortestMargin = 100 * time.Millisecond

// Margin is by how much a holder stops early and a waiter waits longer: a tenth of the
// lease, and 100 ms at least. With both, the clocks of two machines may differ in rate
// by a fifth before a lease is thought to have ended while it is still used.
func Margin(duration time.Duration) time.Duration {
	return max(shortestMargin, duration/10)
}
