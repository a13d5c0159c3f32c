package coalesce_test

import (
	"testing"
	"testing/synctest"

	"github.com/keyholt/keyholt/hsm/coalesce"
)

// TestGatherOnlyWhereRequestsMet: requests that never meet another do not wait for
// one, and after some that met, gathering ends when it is in vain.
func TestGatherOnlyWhereRequestsMet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxBytes: 1024})
		w.takes(quick)
		alone := func(n, size int) uint64 {
			before := w.stats().Gathered
			for range n {
				w.succeed(w.start(t.Context(), hot, size))
			}
			return w.stats().Gathered - before
		}
		if n := alone(20, 32); n != 0 {
			t.Errorf("gathered %d times although no requests met", n)
		}
		first, others := w.merged(1)
		w.succeed(first, others[0])
		if n := alone(20, 1024); n != 0 {
			t.Errorf("requests that fill a call gathered %d times", n)
		}
		if n := alone(100, 32); n == 0 || n > 10 {
			t.Errorf("gathered %d times, want a few and then no more", n)
		}
	})
}

// TestNoGatheringOnSlowToken: there the distance between calls does it.
func TestNoGatheringOnSlowToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(slow)
		w.succeed(w.start(t.Context(), hot, 32))
		first, others := w.merged(5)
		w.succeed(append(others, first)...)
		w.succeed(w.start(t.Context(), hot, 32))
		if s := w.stats(); s.Gathered != 0 {
			t.Errorf("%+v", s)
		}
	})
}
