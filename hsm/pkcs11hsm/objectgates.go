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
	// writePatience is how long a write waits for those who use the key. A use may hang, and a
	// revocation has to go on; by then the service lets nobody begin a use of that key.
	writePatience = 250 * time.Millisecond
	// writeLook is how long it waits between two looks.
	writeLook = 200 * time.Microsecond
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
// Nobody waits for a gate but while an object of its stripe is written, for a write does not
// keep out those who come while it waits. So a call that holds a gate for reading may
// take it once more.
type objectGates struct {
	stripes [gateStripes]struct {
		sync.RWMutex
		_ [40]byte // a cache line for each
	}
}

func (g *objectGates) of(uid hsm.UID) *sync.RWMutex {
	return &g.stripes[uid[0]%gateStripes].RWMutex
}

// search waits until no object is written, and keeps it so until done is called.
func (g *objectGates) search() (done func()) {
	for i := range g.stripes {
		g.stripes[i].RLock()
	}
	return func() {
		for i := range g.stripes {
			g.stripes[i].RUnlock()
		}
	}
}

// write waits until nobody uses the key or searches, and keeps it so until done is called. It
// waits no longer than writePatience, and ends with ctx.
func (g *objectGates) write(ctx context.Context, uid hsm.UID) (done func(), err error) {
	gate := g.of(uid)
	if gate.TryLock() {
		return gate.Unlock, nil
	}
	patience := time.NewTimer(writePatience)
	defer patience.Stop()
	look := time.NewTicker(writeLook)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if gate.TryLock() {
				return gate.Unlock, nil
			}
		case <-patience.C:
			return func() {}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
