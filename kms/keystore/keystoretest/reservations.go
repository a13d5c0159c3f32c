package keystoretest

import (
	"errors"
	"math"
	"slices"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

var reservationTests = []test{
	{"Reserve", testReserve},
	{"ReserveConcurrently", testReserveConcurrently},
	{"ReserveUnknown", testReserveUnknown},
	{"ReserveRemoved", testReserveRemoved},
}

func testReserve(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	uid := contents.Versions[2].UID
	steps := []struct{ n, limit, taken, before uint64 }{
		{n: 1 << 16, limit: 1 << 32, taken: 1 << 16, before: 0},
		{n: 1, limit: 1 << 32, taken: 1, before: 1 << 16},
		{n: 0, limit: 1 << 32, taken: 0, before: 1<<16 + 1},
		{n: 100, limit: 1<<16 + 11, taken: 10, before: 1<<16 + 1}, // fewer remain
		{n: 100, limit: 1<<16 + 11, taken: 0, before: 1<<16 + 11}, // none remain
		{n: 5, limit: 3, taken: 0, before: 1<<16 + 11},            // the limit was lowered
		{n: math.MaxUint64, limit: 1 << 32, taken: 1<<32 - 1<<16 - 11, before: 1<<16 + 11},
	}
	for _, step := range steps {
		target.Reopen(t)
		taken, before, err := target.Store.ReserveEncryptions(t.Context(), uid, step.n, step.limit)
		if err != nil || taken != step.taken || before != step.before {
			t.Errorf("reserve %d of %d: %d taken after %d, %v; want %d after %d",
				step.n, step.limit, taken, before, err, step.taken, step.before)
		}
	}
	const changes = 4 // that took something
	if revision := load(t, target.Store).Head.Revision; revision != contents.Head.Revision+changes {
		t.Errorf("%d reservations changed the store's revision from %d to %d", changes, contents.Head.Revision, revision)
	}
}

// testReserveConcurrently holds that no encryption is given out twice.
func testReserveConcurrently(t *testing.T, target *Target) {
	uid := populate(t, target.Store).Versions[2].UID
	const takers, rounds, block, limit = 4, 8, 10, 305
	var mu sync.Mutex
	var given []uint64
	var group sync.WaitGroup
	for range takers {
		group.Go(func() {
			for range rounds {
				taken, before, err := target.Store.ReserveEncryptions(t.Context(), uid, block, limit)
				if err != nil {
					t.Errorf("ReserveEncryptions: %v", err)
				}
				mu.Lock()
				for i := range taken {
					given = append(given, before+i)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	slices.Sort(given)
	if len(given) != limit || len(slices.Compact(given)) != limit || given[limit-1] != limit-1 {
		t.Errorf("%d encryptions were given out, want each of %d once", len(given), limit)
	}
}

func testReserveUnknown(t *testing.T, target *Target) {
	populate(t, target.Store)
	if _, _, err := target.Store.ReserveEncryptions(t.Context(), hsm.UID{1}, 1, 10); !errors.Is(err, kms.ErrTampered) {
		t.Errorf("a version without a counter: %v", err)
	}
}

// testReserveRemoved holds that a version's counter lives as long as the version.
func testReserveRemoved(t *testing.T, target *Target) {
	contents := populate(t, target.Store)
	version := Version(contents.Keys[1], 2)
	change := &kms.Change{Versions: []*kms.Version{version}}
	head := commit(t, target.Store, change)
	if _, _, err := target.Store.ReserveEncryptions(t.Context(), version.UID, 5, 10); err != nil {
		t.Fatalf("ReserveEncryptions: %v", err)
	}
	commit(t, target.Store, &kms.Change{RemoveVersions: stored(change, head).Versions})
	if _, _, err := target.Store.ReserveEncryptions(t.Context(), version.UID, 5, 10); !errors.Is(err, kms.ErrTampered) {
		t.Errorf("a removed version: %v", err)
	}
	load(t, target.Store)
}
