//go:build !race

package lease

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Two worlds with one key must have the same future, or the exploration would miss
// something. Random walks meet keys again and again by different histories; each time the
// keys of what may come next must be the same.
func TestEqualKeysHaveEqualFutures(t *testing.T) {
	for _, s := range []scenario{
		{replicas: 1, changes: 2, ticks: 3, split: true, late: true, failOver: true, slowClocks: true, leave: true, sweep: true},
		{replicas: 2, changes: 1, ticks: 3, insider: true, sweep: true},
		{replicas: 2, changes: 1, ticks: 5, serving: true, late: true},
		{replicas: 1, changes: 1, ticks: 5, prompt: true, bound: 10, split: true, slowClocks: true},
		{replicas: 1, changes: 2, ticks: 3, lossy: true, doubt: true, split: true, late: true, leave: true, sweep: true},
		{replicas: 2, changes: 2, unwaited: 1, ticks: 3, serving: true, lossy: true, slowClocks: true},
	} {
		random := rand.New(rand.NewPCG(1, 2))
		futures := map[key][]key{}
		again := 0
		for range 300 {
			w, err := s.initial()
			if err != nil {
				t.Fatal(err)
			}
			for range 120 {
				out := s.successors(&w, nil)
				if len(out) == 0 {
					break // everybody has left
				}
				future := make([]key, len(out))
				for i := range out {
					if future[i], err = s.key(&out[i].world); err != nil {
						t.Fatal(err)
					}
				}
				slices.SortFunc(future, func(a, b key) int { return slices.Compare(a[:], b[:]) })
				future = slices.Compact(future)
				k, err := s.key(&w)
				if err != nil {
					t.Fatal(err)
				}
				if before, seen := futures[k]; !seen {
					futures[k] = future
				} else if again++; !slices.Equal(before, future) {
					t.Fatalf("%+v: one key, %d and %d successors, or others", s, len(before), len(future))
				}
				w = out[random.IntN(len(out))].world
			}
		}
		if again < 1000 {
			t.Errorf("%+v: keys were met again only %d times", s, again)
		}
	}
}
