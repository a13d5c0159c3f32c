package lease_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/kms/lease"
)

const second = time.Second

func row(instance string, counter, applied uint64) lease.Row {
	return lease.Row{ID: lease.ID{Instance: instance, Join: 1}, Counter: counter, Applied: applied, Duration: second}
}

// at is a confirmed reading that took no time.
func at(now time.Duration, head uint64, rows ...lease.Row) lease.Observation {
	return lease.Observation{Asked: now, Answered: now, Head: head, Rows: rows, Confirmed: true}
}

// observe is Observe that must succeed.
func observe(t *testing.T, w *lease.Wait, o lease.Observation, wantDone bool) {
	t.Helper()
	done, err := w.Observe(o)
	if err != nil || done != wantDone {
		t.Fatalf("Observe(%+v) = %v, %v, want %v", o, done, err, wantDone)
	}
}

func TestWaitEndsWhenAllHaveAcknowledgedOrHaveNoLease(t *testing.T) {
	w := lease.NewWait(5, "self")
	if w.Next(0) != 0 {
		t.Errorf("before the first reading, Next is %v", w.Next(0))
	}
	observe(t, w, at(0, 5, row("self", 1, 4), row("quick", 1, 5), row("slow", 1, 4), row("dead", 1, 4), row("leaver", 1, 4)), false)
	if next := w.Next(300 * time.Millisecond); next != 800*time.Millisecond {
		t.Errorf("Next is %v", next)
	}
	observe(t, w, at(500*time.Millisecond, 6, row("slow", 2, 4), row("dead", 1, 4), row("late", 1, 0)), false)
	observe(t, w, at(1100*time.Millisecond-1, 6, row("slow", 2, 4), row("dead", 1, 4), row("late", 1, 0)), false)
	observe(t, w, at(1100*time.Millisecond, 6, row("slow", 2, 4), row("dead", 1, 4), row("late", 1, 0)), false)
	if next := w.Next(1100 * time.Millisecond); next != 500*time.Millisecond {
		t.Errorf("Next is %v", next)
	}
	observe(t, w, at(1200*time.Millisecond, 6, row("slow", 3, 6), row("dead", 2, 4), row("late", 1, 0)), true)
	id := func(instance string) []lease.ID { return []lease.ID{{Instance: instance, Join: 1}} }
	got := w.Result()
	want := lease.Result{Acknowledged: append(id("quick"), id("slow")...), Expired: id("dead"), Gone: id("leaver")}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Result %v, want %v", got, want)
	}
	if w.Next(2*second) != 0 {
		t.Errorf("at the end, Next is %v", w.Next(2*second))
	}
}

func TestWaitAloneEndsAtOnce(t *testing.T) {
	w := lease.NewWait(5, "self")
	observe(t, w, at(0, 5, row("self", 1, 4)), true)
}

func TestReplicaThatJoinsAnewIsNotWaitedFor(t *testing.T) {
	w := lease.NewWait(5, "self")
	observe(t, w, at(0, 5, row("a", 1, 4)), false)
	again := row("a", 1, 4)
	again.ID.Join++
	observe(t, w, at(1, 5, again), true)
	if gone := w.Result().Gone; len(gone) != 1 || gone[0].Join != 1 {
		t.Errorf("Gone %v", gone)
	}
}

func TestReadingWithoutTheChangeCountsForNothing(t *testing.T) {
	w := lease.NewWait(5, "self")
	stale := at(0, 4)
	stale.Confirmed = false
	observe(t, w, stale, false)
	if _, err := w.Observe(at(0, 4)); !errors.Is(err, lease.ErrStoreWentBackwards) {
		t.Errorf("a confirmed one: %v", err)
	}
	observe(t, w, at(0, 5, row("a", 1, 4)), false)
	observe(t, w, stale, false)
}

func TestOnlyAConfirmedReadingShowsExpiry(t *testing.T) {
	w := lease.NewWait(5, "self")
	observe(t, w, at(0, 5, row("a", 1, 4)), false)
	o := at(time.Hour, 5, row("a", 1, 4))
	o.Confirmed = false
	observe(t, w, o, false)
	o.Confirmed = true
	observe(t, w, o, true)
}

// A reading that took long may be as old as its question or as young as its answer.
func TestExpiryCountsFromTheAnswerToTheQuestion(t *testing.T) {
	w := lease.NewWait(5, "self")
	first := at(0, 5, row("a", 1, 4))
	first.Answered = second
	observe(t, w, first, false)
	next := at(2*second, 5, row("a", 1, 4))
	next.Answered = time.Hour
	observe(t, w, next, false)
	observe(t, w, at(2100*time.Millisecond, 5, row("a", 1, 4)), true)
}

// Whatever rows come and go: what becomes of each lease is what its own rows say by the
// definition, in whatever order they are read, and never changes.
func TestWaitAgainstTheDefinition(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		revision := rapid.Uint64Range(1, 3).Draw(rt, "revision")
		w := lease.NewWait(revision, "self")
		names := []string{"self", "a", "b", "c"}
		durations := map[string]time.Duration{}
		for _, name := range names {
			durations[name] = time.Duration(rapid.IntRange(5, 15).Draw(rt, "duration")) * 100 * time.Millisecond
		}
		var (
			now     time.Duration
			begun   bool
			quiet   = map[lease.ID]time.Duration{} // since when the counter has not moved
			counter = map[lease.ID]uint64{}
			fate    = map[lease.ID]string{}
		)
		for range rapid.IntRange(1, 12).Draw(rt, "readings") {
			o := lease.Observation{Head: rapid.Uint64Range(0, 3).Draw(rt, "head"), Confirmed: rapid.Bool().Draw(rt, "confirmed")}
			now += time.Duration(rapid.IntRange(0, 15).Draw(rt, "until asked")) * 100 * time.Millisecond
			o.Asked = now
			now += time.Duration(rapid.IntRange(0, 15).Draw(rt, "until answered")) * 100 * time.Millisecond
			o.Answered = now
			for _, name := range names {
				if rapid.IntRange(0, 4).Draw(rt, "present") > 0 {
					r := row(name, rapid.Uint64Range(1, 2).Draw(rt, "counter"), rapid.Uint64Range(0, 3).Draw(rt, "applied"))
					r.ID.Join = uint64(1 + rapid.IntRange(0, 9).Draw(rt, "join")/9)
					r.Duration = durations[name]
					o.Rows = append(o.Rows, r)
				}
			}
			o.Rows = rapid.Permutation(o.Rows).Draw(rt, "order")
			done, err := w.Observe(o)
			if want := o.Confirmed && o.Head < revision; want != errors.Is(err, lease.ErrStoreWentBackwards) {
				rt.Fatalf("Observe(%+v): %v", o, err)
			}
			if o.Head >= revision {
				rows := map[lease.ID]lease.Row{}
				for _, r := range o.Rows {
					rows[r.ID] = r
					if !begun && r.ID.Instance != "self" {
						fate[r.ID], quiet[r.ID], counter[r.ID] = "waiting", o.Answered, r.Counter
					}
				}
				begun = true
				for id := range fate {
					r, there := rows[id]
					switch {
					case fate[id] != "waiting":
					case !there:
						fate[id] = "gone"
					case r.Applied >= revision:
						fate[id] = "acknowledged"
					case r.Counter != counter[id]:
						quiet[id], counter[id] = o.Answered, r.Counter
					case o.Confirmed && o.Asked-quiet[id] >= r.Duration+lease.Margin(r.Duration):
						fate[id] = "expired"
					}
				}
			}
			checkFates(rt, w, fate, now)
			if want := err == nil && begun && len(w.Result().Waiting) == 0; done != want {
				rt.Fatalf("done %v with %+v, error %v", done, w.Result(), err)
			}
		}
	})
}

func checkFates(rt *rapid.T, w *lease.Wait, fate map[lease.ID]string, now time.Duration) {
	result := w.Result()
	total := 0
	for want, ids := range map[string][]lease.ID{
		"acknowledged": result.Acknowledged, "expired": result.Expired, "gone": result.Gone, "waiting": result.Waiting,
	} {
		total += len(ids)
		for _, id := range ids {
			if fate[id] != want {
				rt.Fatalf("%v is %s, want %s", id, want, fate[id])
			}
		}
	}
	if total != len(fate) {
		rt.Fatalf("%d leases in %+v, want %d", total, result, len(fate))
	}
	if next := w.Next(now); next < 0 || next > 1650*time.Millisecond || len(result.Waiting) == 0 && next != 0 {
		rt.Fatalf("Next is %v with %+v", next, result)
	}
}
