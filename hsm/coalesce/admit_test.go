package coalesce_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

var errRevoked = errors.New("revoked")

// startIf is start with an admission.
func (w *world) startIf(key hsm.UID, size int, admit func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- w.requestIf(w.Context(), key, size, admit) }()
	return done
}

// TestAdmissionIsAskedAfterTheQueue: what changed while a request waited counts.
func TestAdmissionIsAskedAfterTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		gate := w.token.Hold(hsmtest.MethodEncryptBlocks)
		first := w.startIf(hot, 32, func() error { return nil })
		synctest.Wait()
		revoked, asked := false, 0
		admit := func() error {
			asked++
			if revoked {
				return errRevoked
			}
			return nil
		}
		dropped := w.startIf(hot, 64, admit)
		served := w.startIf(hot, 128, func() error { return nil })
		synctest.Wait()
		if asked != 0 {
			t.Error("asked before dispatch")
		}
		revoked = true
		gate.Release()
		if err := <-dropped; !errors.Is(err, errRevoked) {
			t.Errorf("got %v", err)
		}
		w.succeed(first, served)
		w.wantSizes(32, 128)
		if s := w.stats(); asked != 1 || s.Refused != 1 || s.Calls != 2 {
			t.Errorf("asked %d times, %+v", asked, s)
		}
	})
}

// TestAdmissionOfIdleKey: it is asked before a call on the caller's own goroutine, too.
func TestAdmissionOfIdleKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		if err := <-w.startIf(hot, 32, func() error { return errRevoked }); !errors.Is(err, errRevoked) {
			t.Errorf("got %v", err)
		}
		w.wantSizes()
		if s := w.stats(); s.Refused != 1 || s.Calls != 0 || s.InFlight != 0 || s.ActiveKeys != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestNobodyAdmitted: no call is made, and what follows is served.
func TestNobodyAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 1, MaxBytes: 64})
		w.takes(quick)
		first := w.start(t.Context(), hot, 32)
		synctest.Wait()
		var dropped []<-chan error
		for range 2 {
			dropped = append(dropped, w.startIf(hot, 32, func() error { return errRevoked }))
			synctest.Wait()
		}
		last, other := w.start(t.Context(), hot, 48), w.start(t.Context(), rare, 16)
		for _, done := range dropped {
			if err := <-done; !errors.Is(err, errRevoked) {
				t.Errorf("got %v", err)
			}
		}
		w.succeed(first, last, other)
		if s := w.stats(); s.Calls != 3 || s.Refused != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAdmissionThatPanics fails one request of a merged call.
func TestAdmissionThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(quick)
		first := w.start(t.Context(), hot, 32)
		synctest.Wait()
		broken := w.startIf(hot, 32, func() error { blow("broken"); return nil })
		others := []<-chan error{first, w.start(t.Context(), hot, 64)}
		if err := <-broken; !errors.Is(err, hsm.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		w.succeed(others...)
		w.wantSizes(32, 64)
	})
}
