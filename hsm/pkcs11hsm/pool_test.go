package pkcs11hsm

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// bench is an opener that counts.
type bench struct {
	opened int
	closed []int
	err    error
}

func (b *bench) open(context.Context) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	b.opened++
	return b.opened, nil
}

func (b *bench) close(n int) { b.closed = append(b.closed, n) }

func newBench(t *testing.T, size int) (*bench, *pool[int]) {
	t.Helper()
	b := &bench{}
	p := newPool(size, 0, b.open, b.close)
	if n, err := p.fill(t.Context(), p.size()); n != size || err != nil {
		t.Fatalf("filled %d: %v", n, err)
	}
	return b, p
}

func mustAcquire(t *testing.T, p *pool[int]) lease[int] {
	t.Helper()
	l, err := p.acquire(t.Context(), p.slots)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPoolIsLastInFirstOut(t *testing.T) {
	_, p := newBench(t, 3)
	a, b := mustAcquire(t, p), mustAcquire(t, p)
	a.release()
	b.release()
	for range 5 {
		l := mustAcquire(t, p)
		if l.value != b.value {
			t.Fatalf("got %d, want %d, which came back last", l.value, b.value)
		}
		l.release()
	}
}

func TestPoolFillStopsAtTheFirstError(t *testing.T) {
	failure := errors.New("no more")
	tries := 0
	p := newPool(4, 0, func(context.Context) (int, error) {
		tries++
		if tries == 3 {
			return 0, failure
		}
		return tries, nil
	}, func(int) {})
	if n, err := p.fill(t.Context(), p.size()); n != 2 || !errors.Is(err, failure) || tries != 3 {
		t.Fatalf("filled %d in %d tries: %v", n, tries, err)
	}
	p.shrink(2, 0)
	a, b := mustAcquire(t, p), mustAcquire(t, p)
	defer a.release()
	defer b.release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.acquire(ctx, p.slots); !errors.Is(err, context.Canceled) {
		t.Fatalf("a third: %v", err)
	}
}

func TestPoolReplacesThePoisoned(t *testing.T) {
	b, p := newBench(t, 2)
	l := mustAcquire(t, p)
	bad := l.value
	l.poison()
	l.release()
	if !slices.Equal(b.closed, []int{bad}) {
		t.Fatalf("closed %v, want %d", b.closed, bad)
	}
	for range 4 {
		l, m := mustAcquire(t, p), mustAcquire(t, p)
		if l.value == bad || m.value == bad {
			t.Fatal("a poisoned one came back")
		}
		l.release()
		m.release()
	}
	if b.opened != 3 {
		t.Fatalf("opened %d, want 3", b.opened)
	}
}

func TestPoolGivesItsPlaceBackWhenOpeningFails(t *testing.T) {
	b, p := newBench(t, 1)
	l := mustAcquire(t, p)
	l.poison()
	l.release()
	b.err = errors.New("token is gone")
	for range 3 {
		if _, err := p.acquire(t.Context(), p.slots); !errors.Is(err, b.err) {
			t.Fatal(err)
		}
	}
	b.err = nil
	l = mustAcquire(t, p)
	l.release()
}

// What is kept for lanes waits for no slot and takes none, and shut waits for it.
func TestPoolKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{}
		p := newPool(1, 1, b.open, b.close)
		if n, err := p.fill(t.Context(), p.size()); n != 2 || err != nil {
			t.Fatalf("filled %d: %v", n, err)
		}
		shared := mustAcquire(t, p)
		own, err := p.acquire(t.Context(), p.kept)
		if err != nil || own.value == shared.value || p.inUse() != 2 {
			t.Fatalf("%d beside %d, %d in use: %v", own.value, shared.value, p.inUse(), err)
		}
		shared.release()
		ended := make(chan struct{})
		go func() {
			p.shut()
			close(ended)
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("shut did not wait")
		default:
		}
		own.release()
		<-ended
		if len(b.closed) != 2 {
			t.Errorf("closed %v", b.closed)
		}
	})
}

// Where the token allows fewer sessions, lanes go first.
func TestFitSessions(t *testing.T) {
	for _, c := range []struct{ allowed, sessions, lanes int }{
		{100, 6, 2}, {8, 6, 2}, {7, 6, 1}, {6, 6, 0}, {3, 3, 0}, {1, 1, 0}, {0, 1, 0}, {-2, 1, 0},
	} {
		token := &Token{cfg: Config{Sessions: 6, Lanes: 2}}
		token.fitSessions(c.allowed)
		if token.cfg.Sessions != c.sessions || token.cfg.Lanes != c.lanes {
			t.Errorf("of %d: %d sessions, %d lanes", c.allowed, token.cfg.Sessions, token.cfg.Lanes)
		}
	}
}

func TestPoolInvalidate(t *testing.T) {
	b, p := newBench(t, 3)
	out := mustAcquire(t, p)
	if !p.invalidate(out.generation) {
		t.Fatal("the first to report a loss must renew")
	}
	if p.invalidate(out.generation) {
		t.Fatal("the second to report the same loss must not")
	}
	if len(b.closed) != 2 {
		t.Fatalf("closed %v of the idle", b.closed)
	}
	out.release()
	if len(b.closed) != 3 {
		t.Fatal("one of the old generation was kept")
	}
	l := mustAcquire(t, p)
	defer l.release()
	if l.value <= 3 || l.generation != p.current() {
		t.Fatalf("got %d of generation %d", l.value, l.generation)
	}
}

func TestPoolWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := newBench(t, 1)
		l := mustAcquire(t, p)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := p.acquire(ctx, p.slots); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Fatalf("%v after %v", err, time.Since(begin))
		}

		got := make(chan int)
		go func() {
			l, err := p.acquire(t.Context(), p.slots)
			if err != nil {
				t.Error(err)
			}
			got <- l.value
			l.release()
		}()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("two have the only one")
		default:
		}
		l.release()
		if v := <-got; v != l.value {
			t.Fatalf("got %d", v)
		}
	})
}

func TestPoolShut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newBench(t, 2)
		l, m := mustAcquire(t, p), mustAcquire(t, p)
		waiting := make(chan error)
		go func() {
			_, err := p.acquire(t.Context(), p.slots)
			waiting <- err
		}()
		synctest.Wait()
		done := make(chan struct{})
		go func() {
			p.shut()
			close(done)
		}()
		if err := <-waiting; !errors.Is(err, errPoolClosed) {
			t.Fatalf("who waits gets %v", err)
		}
		l.release()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("shut did not wait for the one in use")
		default:
		}
		m.release()
		<-done
		if len(b.closed) != 2 {
			t.Fatalf("closed %v", b.closed)
		}
		if _, err := p.acquire(t.Context(), p.slots); !errors.Is(err, errPoolClosed) {
			t.Fatalf("after shut: %v", err)
		}
		p.shut()
		if p.invalidate(p.current()) {
			t.Fatal("a pool that is shut has no generations")
		}
	})
}
