package kms

import (
	"context"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// largeBatch is how many items make a batch wait its turn; smaller calls never do.
const largeBatch = 256

// gate bounds the items of large batches that are worked on at once, first come, first
// served. More would not be done sooner: the host's part of an item takes a core, and
// what is begun and not finished only takes memory.
type gate struct {
	items  *semaphore.Weighted
	inside atomic.Int32 // large batches that were let through
}

// newGate lets two batches of the largest size through for each core, so that one can
// wait for the token while another is opened.
func newGate() *gate {
	return &gate{items: semaphore.NewWeighted(int64(2 * runtime.GOMAXPROCS(0) * MaxItems))}
}

// enter waits until n items may be worked on. The function it returns ends that.
func (g *gate) enter(ctx context.Context, n int) (leave func(), err error) {
	if n < largeBatch {
		return func() {}, nil
	}
	if err := g.items.Acquire(ctx, int64(n)); err != nil {
		return nil, err
	}
	g.inside.Add(1)
	return func() {
		g.inside.Add(-1)
		g.items.Release(int64(n))
	}, nil
}

// cores is how many cores one large batch may use: all while it is alone, its share
// while others are worked on. Spreading a batch over cores that others keep busy only
// costs.
func (g *gate) cores() int {
	return max(1, runtime.GOMAXPROCS(0)/max(1, int(g.inside.Load())))
}
