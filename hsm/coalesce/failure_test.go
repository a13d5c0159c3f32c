package coalesce_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// merged makes a call of one request, and during it n requests that are the next.
func (w *world) merged(n int) (first <-chan error, others []<-chan error) {
	first = w.start(w.Context(), hot, 32)
	synctest.Wait()
	for range n {
		others = append(others, w.start(w.Context(), hot, 32))
	}
	synctest.Wait()
	return first, others
}

// TestMalformedIsRefusedFirst: it does not queue, so it cannot hurt a neighbour.
func TestMalformedIsRefusedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(quick)
		first, others := w.merged(2)
		buf := make([]byte, 64)
		for _, src := range [][]byte{nil, buf[:15], buf[:48]} {
			if err := w.blocks.EncryptBlocks(t.Context(), hot, buf[32:], src); !errors.Is(err, hsm.ErrArgument) {
				t.Errorf("%d bytes: %v", len(src), err)
			}
		}
		w.succeed(append(others, first)...)
		w.wantSizes(32, 64)
		if s := w.stats(); s.Requests != 3 {
			t.Errorf("%+v", s)
		}
	})
}

// TestFailureIsEverybodys: members of a failed call all get its error, once, and the
// next call is untouched.
func TestFailureIsEverybodys(t *testing.T) {
	for _, failure := range []error{hsm.ErrUnavailable, hsm.ErrLoginLost, hsm.ErrKeyNotPermitted} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, coalesce.Config{})
			w.takes(quick)
			w.token.FailAfter(hsmtest.MethodEncryptBlocks, failure, 2)
			first, others := w.merged(3)
			w.succeed(first)
			for _, done := range others {
				if err := <-done; !errors.Is(err, failure) {
					t.Errorf("got %v, want %v", err, failure)
				}
			}
			w.succeed(w.start(t.Context(), hot, 32))
			w.wantSizes(32, 96, 32)
			if s := w.stats(); s.Failed != 1 || s.Separated != 0 || s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestForeignContextError: the end of a context that is not the caller's own is not
// reported as such.
func TestForeignContextError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.takes(quick)
		w.token.FailBefore(hsmtest.MethodEncryptBlocks, context.DeadlineExceeded, 2)
		first, others := w.merged(2)
		w.succeed(first)
		for _, done := range others {
			if err := <-done; !errors.Is(err, hsm.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		}
	})
}

// TestRefusedLengthIsTriedSingly: what is malformed together may be right alone, and
// only who is wrong alone fails.
func TestRefusedLengthIsTriedSingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{})
		w.token.Hook(hsmtest.MethodEncryptBlocks, func(_ context.Context, call hsmtest.Call) error {
			pass(quick)
			if call.Size > 32 {
				return hsm.ErrArgument
			}
			return nil
		})
		w.token.FailBefore(hsmtest.MethodEncryptBlocks, hsm.ErrArgument, 4) // the second of them
		first, others := w.merged(4)
		w.succeed(first)
		pass(quick + quick/2) // into the first of those that go singly
		late := w.start(t.Context(), hot, 16)
		failed := 0
		for _, done := range others {
			if err := <-done; errors.Is(err, hsm.ErrArgument) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
		}
		w.succeed(late)
		if failed != 1 {
			t.Errorf("%d requests failed, want one", failed)
		}
		w.wantSizes(32, 128, 32, 32, 32, 32, 16)
		if s := w.stats(); s.Separated != 4 || s.QueueRequests != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestUnknownKeyFailsAlone: it is another key than its neighbours'.
func TestUnknownKeyFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 1})
		w.takes(quick)
		first, others := w.merged(2)
		unknown := w.start(t.Context(), rare, 32)
		if err := w.token.DestroyKey(t.Context(), rare); err != nil {
			t.Fatal(err)
		}
		if err := <-unknown; !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Errorf("got %v", err)
		}
		w.succeed(append(others, first)...)
	})
}

// TestPanic: a token that panics, or ends the goroutine, in a merged call fails that
// call and nothing else, and its text holds no value that it does not know.
func TestPanic(t *testing.T) {
	type secret struct{ bytes [4]byte }
	for name, test := range map[string]struct {
		act  func()
		text string
	}{
		"string": {func() { blow("broken") }, "broken"},
		"error":  {func() { blow(errors.New("torn")) }, "torn"},
		"other":  {func() { blow(secret{[4]byte{42, 42}}) }, "coalesce_test.secret"},
		"exit":   {runtime.Goexit, "ended its goroutine"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, coalesce.Config{MaxCalls: 1})
				w.token.Hook(hsmtest.MethodEncryptBlocks, func(_ context.Context, call hsmtest.Call) error {
					pass(quick)
					if call.Number == 2 {
						test.act()
					}
					return nil
				})
				first, others := w.merged(2)
				after := w.start(t.Context(), rare, 32) // waits for the only session
				w.succeed(first)
				for _, done := range others {
					err := <-done
					if !errors.Is(err, hsm.ErrUnavailable) || !strings.HasSuffix(err.Error(), test.text) {
						t.Errorf("got %v", err)
					}
				}
				w.succeed(after, w.start(t.Context(), hot, 32))
				if s := w.stats(); s.Panics != 1 || s.Failed != 1 || s.InFlight != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestPanicOfOwnCall: a panic in a call on the caller's goroutine is the caller's,
// and those who waited are served.
func TestPanicOfOwnCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, coalesce.Config{MaxCalls: 1})
		w.token.Hook(hsmtest.MethodEncryptBlocks, func(_ context.Context, call hsmtest.Call) error {
			pass(quick)
			if call.Number == 1 {
				blow("broken")
			}
			return nil
		})
		recovered := make(chan any, 1)
		go func() {
			defer func() { recovered <- recover() }()
			_ = w.request(t.Context(), hot, 32)
		}()
		synctest.Wait()
		others := []<-chan error{w.start(t.Context(), hot, 32), w.start(t.Context(), rare, 32)}
		if value := <-recovered; value != "broken" {
			t.Errorf("recovered %v", value)
		}
		w.succeed(others...)
		if s := w.stats(); s.Panics != 1 || s.Calls != 3 {
			t.Errorf("%+v", s)
		}
	})
}
