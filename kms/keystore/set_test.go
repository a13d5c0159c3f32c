package keystore

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

func idNumber(n uint64) (id rowID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

// step makes a change of one row at the next revision.
func step(x *index, id uint64, revision kms.Revision) {
	p := x.begin()
	p.put(versionTable, idNumber(id), entry{summand: digest{uint64(revision)}, revision: revision})
	x.publish(p, "k", kms.Head{Revision: revision})
}

func newIndex() *index {
	x := new(index)
	x.replace(newSet("k"))
	return x
}

// TestChangedSince holds that the rows changed since a revision are counted right whether
// the log reaches back that far or not.
func TestChangedSince(t *testing.T) {
	x := newIndex()
	const rows, last = 3000, 3 * logLimit
	for revision := kms.Revision(1); revision <= last; revision++ {
		step(x, uint64(revision)*7919%rows, revision)
	}
	if len(x.log) > logLimit || x.floor == 0 {
		t.Errorf("the log has %d entries from %d", len(x.log), x.floor)
	}
	for _, since := range []kms.Revision{0, 1, x.floor - 1, x.floor, x.floor + 1, last - 5000, last - 3000, last - 10, last} {
		if got, want := x.changedSince(since), int(min(rows, last-since)); got != want {
			t.Errorf("%d rows have changed since %d (the log begins at %d), want %d", got, since, x.floor, want)
		}
	}
	if got := x.set.counts[versionTable.ordinal]; got != rows {
		t.Errorf("the set has %d rows, want %d", got, rows)
	}
}

// TestPublishLate holds that a change which the index has seen by another way is not made
// again, and one that it is ahead of only in part is.
func TestPublishLate(t *testing.T) {
	x := newIndex()
	step(x, 1, 1)
	p := x.begin()
	p.put(versionTable, idNumber(2), entry{summand: digest{2}, revision: 2})
	p.remove(versionTable, idNumber(1))
	step(x, 3, 3) // by whoever has read revision 3
	before := x.set.sum
	x.publish(p, "k", kms.Head{Revision: 2})
	if x.set.head.Revision != 3 || x.set.sum != before || len(x.set.rows) != 2 {
		t.Errorf("revision %d with %d rows after a change that was late", x.set.head.Revision, len(x.set.rows))
	}
	x.replace(newSet("k"))
	if len(x.set.rows) != 2 {
		t.Error("an older set was taken over")
	}
	x.publish(x.begin(), "another key", kms.Head{Revision: 4})
	if x.set.head.Revision != 3 {
		t.Error("a change under another seal key was made")
	}
}

// BenchmarkIndex tells how many bytes of memory the index takes for a row.
func BenchmarkIndex(b *testing.B) {
	const rows = 43_001 // of 10,000 keys with 3 versions, a tenth of them STRICT
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		kept := newSet("k")
		for i := range uint64(rows) {
			kept.insert(versionTable, idOf(versionTable, []any{"shop", "orders", int64(i)}), entry{summand: digest{i}, revision: 1})
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(kept)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/rows, "bytes/row")
}
