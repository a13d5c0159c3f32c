package prove

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"
)

// fault is what a replica suffers while another changes something.
type fault string

const (
	noFault      fault = "all live"
	faultStopped fault = "one stopped"
	faultCut     fault = "one cut off"
	faultKilled  fault = "one killed"
	faultAll     fault = "stopped, cut off and killed"
)

// afterFault is what a change suffers when all replicas live, and the lease of a process
// that was killed before has not expired.
const afterFault fault = "all live, after a fault"

var (
	// faults are those that a plan has.
	faults = []fault{faultStopped, faultCut, faultKilled, faultAll}
	// classes are what changes are told apart by, in the order of reports.
	classes = append([]fault{noFault, afterFault}, faults...)
)

// disturbance is a fault of some replicas, that can be healed.
type disturbance struct {
	stopped, cut, killed *replica // nil: none
	cutState             linkState
	survivors            []*replica
}

// newDisturbance chooses the victims.
func newDisturbance(d *deployment, f fault, random *rand.Rand) *disturbance {
	order := random.Perm(len(d.replicas))
	at := func(i int) *replica { return d.replicas[order[i]] }
	made := &disturbance{cutState: linkFrozen}
	if random.IntN(2) == 0 {
		made.cutState = linkCut
	}
	victims := 1
	switch f {
	case noFault:
		victims = 0
	case faultStopped:
		made.stopped = at(0)
	case faultCut:
		made.cut = at(0)
	case faultKilled:
		made.killed = at(0)
	case faultAll:
		made.stopped, made.cut, made.killed, victims = at(0), at(1), at(2), 3
	}
	for i := victims; i < len(order); i++ {
		made.survivors = append(made.survivors, at(i))
	}
	return made
}

// begin lets it happen.
func (b *disturbance) begin() (err error) {
	if b.stopped != nil {
		err = errors.Join(err, b.stopped.signal(syscall.SIGSTOP))
	}
	if b.cut != nil {
		b.cut.link.set(b.cutState)
	}
	if b.killed != nil {
		err = errors.Join(err, b.killed.kill())
	}
	return err
}

// heal takes it back.
func (b *disturbance) heal(t *testing.T) {
	t.Helper()
	if b.stopped != nil {
		if err := b.stopped.signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	if b.cut != nil {
		b.cut.link.set(linkUp)
	}
	if b.killed != nil {
		b.killed.start(t)
	}
}
