package pkcs11hsm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// metLane is a lane in which calls have met, so that its threads make them.
func metLane(threads int) *lane {
	l := newLane(threads)
	l.met = 1 << 30
	return l
}

func mustMake(t *testing.T, l *lane, call func() error) {
	t.Helper()
	if made, err := l.do(call); !made || err != nil {
		t.Errorf("made: %v, %v", made, err)
	}
}

// pause takes as long as a call would.
func pause(d time.Duration) { <-time.After(d) }

func TestLaneSuits(t *testing.T) {
	for _, c := range []struct {
		threads, n int
		each       time.Duration
		want       bool
	}{
		{1, 1, 0, false}, // nothing is known yet
		{1, 1, shortestInLane - 1, false},
		{1, 1, shortestInLane, true},
		{1, 1, longestInLane, true},
		{1, 1, longestInLane + 1, false},
		{1, 10, longestLaneCall / 10, true},
		{1, 10, longestLaneCall/10 + 1, false},
		{0, 1, shortestInLane, false},
	} {
		if got := newLane(c.threads).suits(c.n, c.each); got != c.want {
			t.Errorf("%d threads, %d items of %v: %v", c.threads, c.n, c.each, got)
		}
	}
}

// A call that meets no other is its caller's, and no thread is begun for it.
func TestLaneOfOneCaller(t *testing.T) {
	l := newLane(1)
	defer l.close()
	for range 3 {
		failure := errors.New("no")
		if made, err := l.do(func() error { return failure }); !made || !errors.Is(err, failure) {
			t.Fatalf("made: %v, %v", made, err)
		}
	}
	if l.begun != 0 {
		t.Errorf("%d threads", l.begun)
	}
}

// Calls that met are made by threads, no more at a time than there are, first come first
// served; and after laneMet calls that met no other by their callers again.
func TestLaneOrder(t *testing.T) {
	for _, threads := range []int{1, 2, 3} {
		t.Run(fmt.Sprint(threads), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLane(threads)
				defer l.close()
				var (
					group sync.WaitGroup
					mu    sync.Mutex
					order []int
					now   atomic.Int32
				)
				for i := range 20 {
					group.Go(func() {
						mustMake(t, l, func() error {
							mu.Lock()
							order = append(order, i)
							mu.Unlock()
							if n := now.Add(1); n > int32(threads) {
								t.Errorf("%d at a time", n)
							}
							pause(50 * time.Microsecond)
							now.Add(-1)
							return nil
						})
					})
					synctest.Wait()
				}
				group.Wait()
				for i, n := range order { // threads pass one another between taking a call and this
					if n < i-threads+1 || n > i+threads-1 {
						t.Fatalf("came as %d, was %d: %v", n, i, order)
					}
				}
				if l.begun != threads {
					t.Errorf("%d threads", l.begun)
				}
				for range laneMet {
					mustMake(t, l, func() error { return nil })
				}
				if l.met != 0 {
					t.Errorf("%d calls more by threads", l.met)
				}
			})
		})
	}
}

// Who waits is woken when nothing is left, and at the latest when the thread has made calls for
// laneHold and one more.
func TestLaneHoldsNobodyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const cost = 60 * time.Microsecond
		l := metLane(1)
		defer l.close()
		var group sync.WaitGroup
		begin := time.Now()
		for i := range 50 {
			group.Go(func() {
				mustMake(t, l, func() error { pause(cost); return nil })
				if late := time.Since(begin) - time.Duration(i+1)*cost; late < 0 || late > laneHold+cost {
					t.Errorf("call %d was woken %v after it was made", i, late)
				}
			})
			synctest.Wait()
		}
		group.Wait()
	})
}

// A call that hangs keeps neither those behind it nor those that were made before it, and the
// lane is used again when it has ended.
func TestLaneStall(t *testing.T) {
	for _, byThread := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l := newLane(1)
			defer l.close()
			if byThread {
				l.met = laneMet
			}
			release := make(chan struct{})
			var group, before sync.WaitGroup
			if byThread { // in the thread's hand when the next hangs
				group.Go(func() { mustMake(t, l, func() error { pause(time.Microsecond); return nil }) })
				synctest.Wait()
				before.Go(func() { mustMake(t, l, func() error { pause(time.Microsecond); return nil }) })
				synctest.Wait()
			}
			group.Go(func() { mustMake(t, l, func() error { <-release; return nil }) })
			synctest.Wait()
			begin := time.Now()
			for range 5 {
				before.Go(func() {
					if made, _ := l.do(func() error { t.Error("made"); return nil }); made {
						t.Error("made behind a call that hangs")
					}
				})
			}
			before.Wait()
			if waited := time.Since(begin); waited > 2*laneStall {
				t.Errorf("waited %v", waited)
			}
			if made, _ := l.do(func() error { return nil }); made {
				t.Error("made in a lane that is stalled")
			}
			close(release)
			group.Wait()
			mustMake(t, l, func() error { return nil })
		})
	}
}

// Nobody waits for long in a lane whose calls have become slow, but not slow enough to stall it.
func TestLaneOfSlowCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1)
		defer l.close()
		var group sync.WaitGroup
		var made, sentAway atomic.Int32
		begin := time.Now()
		for range 512 {
			group.Go(func() {
				here, _ := l.do(func() error { pause(laneStall - time.Microsecond); return nil })
				if here {
					made.Add(1)
				} else {
					sentAway.Add(1)
				}
				if waited := time.Since(begin); waited > laneWait+4*laneStall {
					t.Errorf("waited %v", waited)
				}
			})
		}
		group.Wait()
		if made.Load() < 10 || sentAway.Load() < 400 {
			t.Errorf("%d made, %d sent away", made.Load(), sentAway.Load())
		}
	})
}

// A lane whose calls end is not stalled, however many wait.
func TestLaneUnderLoadIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1)
		defer l.close()
		var group sync.WaitGroup
		for range 500 {
			group.Go(func() { mustMake(t, l, func() error { pause(80 * time.Microsecond); return nil }) })
		}
		group.Wait()
	})
}

// A call's panic is its caller's, and no other's.
func TestLanePanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := metLane(1)
		defer l.close()
		var group sync.WaitGroup
		for i := range 10 {
			group.Go(func() {
				defer func() {
					if got := recover(); (got != nil) != (i%2 == 0) {
						t.Errorf("call %d: panic %v", i, got)
					}
				}()
				mustMake(t, l, func() error {
					pause(time.Microsecond)
					if i%2 == 0 {
						panic("no") //nolint:forbidigo // what is tested
					}
					return nil
				})
			})
		}
		group.Wait()
	})
}

// Who waits when the lane is closed is served, and nobody later.
func TestLaneClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := metLane(1)
		var group sync.WaitGroup
		for range 5 {
			group.Go(func() { mustMake(t, l, func() error { pause(time.Millisecond); return nil }) })
		}
		synctest.Wait()
		l.close()
		group.Wait()
		if made, _ := l.do(func() error { return nil }); made {
			t.Error("made in a closed lane")
		}
	})
}

// A lane whose thread the host did not let run for long sends away who waited, and serves
// those who come later: no call hangs in it whose end could tell.
func TestLaneOfThreadThatWasLate(t *testing.T) {
	for _, threads := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			l := metLane(threads)
			release := make(chan struct{})
			var group sync.WaitGroup
			for range threads - 1 { // hang all the while
				group.Go(func() { mustMake(t, l, func() error { <-release; return nil }) })
				synctest.Wait()
			}
			l.begun = threads // of which one does not run yet
			if made, _ := l.do(func() error { return nil }); made {
				t.Error("made without a thread")
			}
			l.running.Go(l.thread)
			mustMake(t, l, func() error { return nil })
			close(release)
			group.Wait()
			l.close()
		})
	}
}

// A lane is closed while one waits behind a call that hangs: who waits is sent away, and the
// thread ends.
func TestLaneCloseStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(1)
		var group sync.WaitGroup
		release := make(chan struct{})
		group.Go(func() { mustMake(t, l, func() error { <-release; return nil }) })
		synctest.Wait()
		waited := make(chan struct{})
		group.Go(func() {
			defer close(waited)
			if made, _ := l.do(func() error { return nil }); made {
				t.Error("made behind a call that hangs")
			}
		})
		synctest.Wait()
		group.Go(l.close)
		<-waited
		close(release)
		group.Wait()
	})
}

// Threads that cannot begin what waits when the lane is closed, since as many calls as may be
// are under way, end nevertheless when another has made it.
func TestLaneCloseWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(2)
		var group sync.WaitGroup
		for range 2 { // of their callers
			group.Go(func() { mustMake(t, l, func() error { pause(time.Millisecond); return nil }) })
			synctest.Wait()
		}
		for range 2 { // begin a thread each
			group.Go(func() { mustMake(t, l, func() error { pause(time.Millisecond); return nil }) })
			synctest.Wait()
		}
		group.Wait()
		l.met = 0
		var direct sync.WaitGroup
		for i := range 2 { // the second ends when nobody waits any more
			direct.Go(func() { mustMake(t, l, func() error { pause(time.Duration(i+1) * time.Millisecond); return nil }) })
			synctest.Wait()
		}
		direct.Go(func() { mustMake(t, l, func() error { return nil }) })
		synctest.Wait()
		l.close()
		direct.Wait()
	})
}

// Many callers, lanes that stall now and then, and an end in the middle: every call is made
// once or its caller is told that it was not, and all get their own outcome.
func TestLaneUnderFire(t *testing.T) {
	for _, threads := range []int{1, 3} {
		l := newLane(threads)
		var group sync.WaitGroup
		var sentAway atomic.Int64
		for caller := range 16 {
			random := rand.New(rand.NewPCG(uint64(caller), 7))
			group.Go(func() {
				for range 200 {
					own, runs := errors.New("own"), 0
					made, err := l.do(func() error {
						runs++
						if random.IntN(500) == 0 {
							pause(3 * laneStall)
						}
						return own
					})
					switch {
					case made && (runs != 1 || !errors.Is(err, own)), !made && (runs != 0 || err != nil):
						t.Errorf("made: %v, run %d times: %v", made, runs, err)
					case !made:
						sentAway.Add(1)
					}
				}
			})
		}
		pause(20 * time.Millisecond)
		l.close()
		group.Wait()
		if sentAway.Load() == 0 {
			t.Error("nobody was sent away by a lane that was closed")
		}
	}
}

func TestCosts(t *testing.T) {
	c := new(costs)
	const spec = 3
	if mean, least := c.mean(spec), c.least(spec); mean != firstRunCost || least != 0 {
		t.Fatalf("before anything was measured: mean %v, least %v", mean, least)
	}
	for i := range 40 {
		c.learn(spec, time.Duration(100-i)*time.Microsecond)
	}
	if least := c.least(spec); least != 61*time.Microsecond {
		t.Errorf("least %v", least)
	}
	if mean := c.mean(spec); mean < 61*time.Microsecond || mean > 70*time.Microsecond {
		t.Errorf("mean %v of the last", mean)
	}
	for range costWindow {
		c.learn(spec, time.Millisecond)
	}
	if least := c.least(spec); least != 61*time.Microsecond {
		t.Errorf("least %v of this window and the one before", least)
	}
	for range costWindow {
		c.learn(spec, time.Millisecond)
	}
	if mean, least := c.mean(spec), c.least(spec); mean.Round(time.Microsecond) != time.Millisecond || least != time.Millisecond {
		t.Errorf("of a token that has become slow: mean %v, least %v", mean, least)
	}
	if c.least(spec+1) != 0 {
		t.Error("another specification learned from this one")
	}
}
