package pkcs11hsm

import (
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// TestNextBatch: a crossing is bounded in items, in bytes and, by the cost of those
// before, in time; every item that has not failed is in one.
func TestNextBatch(t *testing.T) {
	items := func(n, size int) []hsm.SealItem {
		list := make([]hsm.SealItem, n)
		for i := range list {
			list[i] = hsm.SealItem{Plaintext: make([]byte, size), AAD: []byte("a")}
		}
		return list
	}
	failed := items(5, 1)
	failed[0].Err, failed[3].Err = hsm.ErrArgument, hsm.ErrArgument
	tests := []struct {
		name  string
		items []hsm.SealItem
		cost  time.Duration
		want  []int // sizes of the batches
	}{
		{"all in one", items(40, 32), 25 * time.Microsecond, []int{40}},
		{"at most 64", items(150, 32), time.Microsecond, []int{64, 64, 22}},
		{"slow token", items(3, 32), 50 * time.Millisecond, []int{1, 1, 1}},
		{"in between", items(7, 32), 500 * time.Microsecond, []int{3, 3, 1}},
		{"large items alone", items(3, 60<<10), time.Microsecond, []int{1, 1, 1}},
		{"larger than a crossing", items(2, 200<<10), time.Microsecond, []int{1, 1}},
		{"failed ones left out", failed, time.Microsecond, []int{3}},
	}
	for _, test := range tests {
		token := &Token{}
		token.gcmCost.Store(int64(test.cost))
		job := &sealJob{test.items}
		var got []int
		seen := make(map[int]bool)
		for next := 0; next < job.count(); {
			var batch []int
			batch, next = token.nextBatch(job, nil, next)
			if len(batch) == 0 {
				break
			}
			got = append(got, len(batch))
			for _, i := range batch {
				if seen[i] || job.failed(i) {
					t.Errorf("%s: item %d twice, or failed", test.name, i)
				}
				seen[i] = true
			}
		}
		if len(got) != len(test.want) {
			t.Errorf("%s: batches %v, want %v", test.name, got, test.want)
			continue
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%s: batches %v, want %v", test.name, got, test.want)
			}
		}
	}
}

func TestGCMCostIsAMovingMean(t *testing.T) {
	token := &Token{}
	token.gcmCost.Store(int64(firstGCMCost))
	for range 30 {
		token.learnGCMCost(2 * time.Millisecond)
	}
	if cost := time.Duration(token.gcmCost.Load()); cost < 1900*time.Microsecond || cost > 2*time.Millisecond {
		t.Errorf("cost %v after many of 2 ms", cost)
	}
}
