package pkcs11hsm

import (
	"context"
	"sync"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

const (
	// gateStripes is how many gates the keys share, by the first byte of their UIDs.
	gateStripes = 64
	// gatePatience is how long anybody waits at a gate. A call may hang, in a use or in a write;
	// and a revocation has to go on, and so have uses of other keys.
	gatePatience = 250 * time.Millisecond
	// gateLook is how long it takes between two looks.
	gateLook = 200 * time.Microsecond
)

// objectGates keep the calls that write attributes of an object apart from those that use
// or find it.
//
// SoftHSM2 has each object in memory, for all threads of the process, and reads it anew from its
// file when that has changed. To write it, it empties the file, and then writes what it has in
// memory. A thread that uses the object in between, or comes upon it in a search, finds the empty
// file and makes the attributes in memory those of the file: none. What is then written is an object
// without some of its attributes, or without any: a key that is lost.
//
// A write that waits keeps nobody out, so that a call which has passed a gate may pass it once
// more. Who has waited for gatePatience goes on as if there were no gate.
type objectGates struct {
	stripes [gateStripes]gate
}

type gate struct {
	sync.RWMutex

	_ [40]byte // a cache line for each
}

func (g *objectGates) of(uid hsm.UID) *gate { return &g.stripes[uid[0]%gateStripes] }

// use waits until the object is not written. If it reports that it has the gate, who called it
// calls RUnlock. It ends with ctx.
func (g *gate) use(ctx context.Context) (held bool, err error) {
	if g.TryRLock() { // nearly always
		return true, nil
	}
	return await(ctx, gatePatience, g.TryRLock)
}

// write waits until nobody uses an object or searches, and keeps it so until done is called. It
// ends with ctx.
func (g *gate) write(ctx context.Context) (done func(), err error) {
	held, err := await(ctx, gatePatience, g.TryLock)
	if !held {
		return func() {}, err
	}
	return g.Unlock, nil
}

// search waits until no object is written, and keeps it so until done is called.
func (g *objectGates) search() (done func()) {
	var held [gateStripes]bool
	begin := time.Now()
	for i := range g.stripes {
		if held[i] = g.stripes[i].TryRLock(); !held[i] {
			held[i], _ = await(context.Background(), gatePatience-time.Since(begin), g.stripes[i].TryRLock)
		}
	}
	return func() {
		for i := range g.stripes {
			if held[i] {
				g.stripes[i].RUnlock()
			}
		}
	}
}

// await tries until it succeeds, for as long as patience and ctx last. It reports whether it
// did; the error is ctx's.
func await(ctx context.Context, patience time.Duration, try func() bool) (bool, error) {
	if try() {
		return true, nil
	}
	end := time.NewTimer(patience)
	defer end.Stop()
	look := time.NewTicker(gateLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if try() {
				return true, nil
			}
		case <-end.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
