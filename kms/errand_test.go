package kms

import (
	"context"
	"errors"
	"hash/maphash"
	"testing"
	"time"
)

// Attempts at what fails come at growing distances, and those at something else do not wait.
func TestRetriesAreSpacedOut(t *testing.T) {
	t.Parallel()
	var r retries[string]
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	failure := errors.New("failure")
	if r.wait("a", now) != 0 {
		t.Fatal("the first attempt waits")
	}
	want := firstRetry
	for range 20 {
		r.note("a", now, failure)
		if wait := r.wait("a", now); wait != want {
			t.Fatalf("the wait is %v, want %v", wait, want)
		}
		if r.wait("b", now) != 0 {
			t.Fatal("another thing waits")
		}
		now = now.Add(want)
		if r.wait("a", now) != 0 {
			t.Fatal("the wait does not end")
		}
		want = min(2*want, longestWait)
	}
	if wait := r.wait("a", now.Add(-time.Hour*1000)); wait != longestWait {
		t.Fatalf("with the clock set back the wait is %v", wait)
	}
	r.note("a", now, nil)
	r.note("a", now, failure)
	if wait := r.wait("a", now); wait != firstRetry {
		t.Fatalf("after a success the wait is %v", wait)
	}
	r.keep(func(string) bool { return false })
	if r.wait("a", now) != 0 {
		t.Fatal("what is not to be done any more waits")
	}
}

// An errand works at once, then when it is woken, and not after stop.
func TestErrand(t *testing.T) {
	t.Parallel()
	var e errand
	e.wake() // before start
	rounds := make(chan bool)
	e.start(func(ctx context.Context) time.Duration {
		select {
		case rounds <- true:
		case <-ctx.Done():
		}
		return time.Hour
	})
	<-rounds
	<-rounds // by the wake before
	e.wake()
	<-rounds
	e.stop()
	select {
	case <-rounds:
		t.Fatal("it works after stop")
	default:
	}
	new(errand).stop()
}

// The jitter of a rotation is at most a twentieth of the period and at most a minute, the
// same whenever it is asked for, and another for another rotation or in another process.
func TestRotationJitter(t *testing.T) {
	t.Parallel()
	namespace, err := NewNamespaceName("default")
	if err != nil {
		t.Fatal(err)
	}
	name, err := NewKeyName(namespace, "orders")
	if err != nil {
		t.Fatal(err)
	}
	due := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct{ period, most time.Duration }{
		{time.Second, 50 * time.Millisecond}, {time.Minute, 3 * time.Second}, {24 * time.Hour, time.Minute},
	} {
		key := &keyEntry{Key: &Key{Name: name, RotationPeriod: test.period}}
		seen := make(map[time.Duration]bool)
		for process := range 10 {
			r := &rotator{seed: maphash.MakeSeed()}
			for n := range 10 {
				at := due.Add(time.Duration(n) * test.period)
				jitter := r.jitter(key, at)
				if jitter < 0 || jitter > test.most || jitter != r.jitter(key, at) {
					t.Fatalf("process %d, rotation %d: jitter %v of a period of %v", process, n, jitter, test.period)
				}
				seen[jitter] = true
			}
		}
		if len(seen) < 90 {
			t.Fatalf("100 rotations have %d jitters", len(seen))
		}
	}
}
