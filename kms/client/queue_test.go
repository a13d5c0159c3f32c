package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/kms"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// line is a service that takes a while, and answers each call with its own input.
type line struct {
	takes  func(calls []*dataKeyCall) time.Duration // nil: no time
	answer func(i int, c *dataKeyCall) error        // of a call; nil: all succeed

	mu      sync.Mutex
	batches []int // sizes, in the order of sending
	flying  int
	most    int // RPCs at once
}

func (l *line) send(ctx context.Context, calls []*dataKeyCall) error {
	l.mu.Lock()
	l.batches = append(l.batches, len(calls))
	l.flying++
	l.most = max(l.most, l.flying)
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.flying--
		l.mu.Unlock()
	}()
	if l.takes != nil {
		select {
		case <-time.After(l.takes(calls)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for i, c := range calls {
		c.outcome.DataKey = bytes.Clone(c.inputBytes())
		if l.answer != nil {
			c.outcome.Err = l.answer(i, c)
		}
	}
	return nil
}

func (l *line) sent() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.batches)
}

// underWay returns how many RPCs are now, and how many were at most.
func (l *line) underWay() (now, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flying, l.most
}

func always(d time.Duration) func([]*dataKeyCall) time.Duration {
	return func([]*dataKeyCall) time.Duration { return d }
}

// testQueue is a queue and its calls.
type testQueue struct {
	*dataKeyQueue
	calls dataKeyCalls
}

func newTestQueue(t *testing.T, l *line, limits Batching) *testQueue {
	t.Helper()
	limits, err := limits.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &testQueue{dataKeyQueue: &dataKeyQueue{
		send: l.send, lifetime: t.Context(),
		limits: queueLimits{Batching: limits, timeout: DefaultTimeout, bytes: maxBatchBytes, fastShare: dataKeyShare},
	}}
}

// ask makes a call whose input is the text, and checks that the answer is to that one.
func ask(ctx context.Context, t *testing.T, q *testQueue, text string) error {
	t.Helper()
	c, err := q.calls.get(kms.KeyName{}, []byte(text), kms.Binding{})
	if err != nil {
		t.Error(err)
		return err
	}
	outcome, err := carry(ctx, q.dataKeyQueue, c)
	if err == nil && string(outcome.DataKey) != text {
		t.Errorf("asked %q, got the answer to %q", text, []byte(outcome.DataKey))
	}
	return err
}

// busy has callers ask again and again, and returns how long all of them took.
func busy(t *testing.T, q *testQueue, callers, rounds int) time.Duration {
	t.Helper()
	start := time.Now()
	var running sync.WaitGroup
	for i := range callers {
		running.Go(func() {
			for round := range rounds {
				if err := ask(t.Context(), t, q, fmt.Sprint(i, ":", round)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	return time.Since(start)
}

func TestLoneCallerWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, takes := range []time.Duration{100 * time.Microsecond, 20 * time.Millisecond} {
			l := &line{takes: always(takes)}
			if took := busy(t, newTestQueue(t, l, Batching{}), 1, 50); took != 50*takes {
				t.Errorf("50 calls of %v took %v", takes, took)
			}
		}
	})
}

// As many calls as there are callers may be answered in the time of one RPC. Convoys (one
// caller alone, all others together, in turns) would take twice as long.
func TestNoConvoys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const callers, rounds = 64, 100
		for _, takes := range []time.Duration{200 * time.Microsecond, 5 * time.Millisecond, 50 * time.Millisecond} {
			l := &line{takes: always(takes)}
			took := busy(t, newTestQueue(t, l, Batching{}), callers, rounds)
			if most := rounds * takes * 3 / 2; took > most {
				t.Errorf("RPCs of %v: %d rounds took %v, want at most %v", takes, rounds, took, most)
			}
			if _, most := l.underWay(); most > defaultMaxInFlight {
				t.Errorf("%d RPCs at once", most)
			}
			if takes < maxHold && len(l.sent()) > rounds*3/2 {
				t.Errorf("%d fast RPCs for %d rounds", len(l.sent()), rounds)
			}
		}
	})
}

// On a slow line calls that come one after the other share its RPCs, and none waits
// longer than an RPC takes besides its own.
func TestCallsGatherWhileRPCsAreUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes, gap, calls = 10 * time.Millisecond, 100 * time.Microsecond, 1000
		l := &line{takes: always(takes)}
		q := newTestQueue(t, l, Batching{})
		var running sync.WaitGroup
		for i := range calls {
			running.Go(func() {
				start := time.Now()
				if err := ask(t.Context(), t, q, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > 2*takes {
					t.Errorf("call %d took %v", i, took)
				}
			})
			<-time.After(gap)
		}
		running.Wait()
		if n := len(l.sent()); n > calls/10 {
			t.Errorf("%d RPCs for %d calls", n, calls)
		}
		if _, most := l.underWay(); most > defaultMaxInFlight {
			t.Errorf("%d RPCs at once", most)
		}
	})
}

// A free place is taken after the hold, not when the RPC under way ends.
func TestHoldIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: always(500 * time.Millisecond)}
		q := newTestQueue(t, l, Batching{})
		var running sync.WaitGroup
		running.Go(func() { _ = busy(t, q, 1, 1) })
		synctest.Wait()
		running.Go(func() {
			if took := busy(t, q, 1, 1); took > 500*time.Millisecond+maxHold {
				t.Errorf("the second caller waited: %v", took)
			}
		})
		running.Wait()
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: always(time.Millisecond)}
		q := newTestQueue(t, l, Batching{MaxInFlight: 1, MaxQueue: 10, MaxItems: 4})
		var running sync.WaitGroup
		for range 11 { // one travels, ten wait
			running.Go(func() {
				if err := ask(t.Context(), t, q, "in time"); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		err := ask(t.Context(), t, q, "one too many")
		if !errors.Is(err, ErrQueueFull) || !errors.Is(err, kms.ErrOverloaded) {
			t.Errorf("got %v", err)
		}
		running.Wait()
		if err := ask(t.Context(), t, q, "there is room again"); err != nil {
			t.Error(err)
		}
		if got := l.sent(); !slices.Equal(got, []int{1, 4, 4, 2, 1}) {
			t.Errorf("batches %v", got)
		}
	})
}

func TestLeavingWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: always(10 * time.Millisecond)}
		q := newTestQueue(t, l, Batching{MaxInFlight: 1})
		var running sync.WaitGroup
		running.Go(func() { _ = busy(t, q, 1, 1) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Millisecond)
		defer cancel()
		for i := range 5 {
			running.Go(func() { // the second and the fourth leave
				its := t.Context()
				if i%2 == 1 {
					its = ctx
				}
				start := time.Now()
				err := ask(its, t, q, fmt.Sprint(i))
				if i%2 == 0 && err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
				if i%2 == 1 && (!errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Millisecond) {
					t.Errorf("caller %d: %v after %v", i, err, time.Since(start))
				}
			})
			synctest.Wait()
		}
		running.Wait()
		if got := l.sent(); !slices.Equal(got, []int{1, 3}) {
			t.Errorf("batches %v: those who left were sent", got)
		}
	})
}

func TestLeavingUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: always(10 * time.Millisecond)}
		q := newTestQueue(t, l, Batching{MaxInFlight: 1})
		var running sync.WaitGroup
		running.Go(func() { _ = busy(t, q, 1, 1) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Millisecond) // in the middle of the second RPC
		defer cancel()
		running.Go(func() {
			if err := ask(ctx, t, q, "leaves"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if ctx.Err() == nil {
				t.Error("an answer before the deadline")
			}
		})
		running.Go(func() {
			if err := ask(t.Context(), t, q, "stays"); err != nil {
				t.Error(err)
			}
		})
		running.Wait()
	})
}

// An RPC that nobody waits for any more is cancelled, and its place is free at once.
func TestAbandonedRPCIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: func(calls []*dataKeyCall) time.Duration {
			if string(calls[0].inputBytes()) == "patient" {
				return time.Millisecond
			}
			return time.Hour
		}}
		q := newTestQueue(t, l, Batching{MaxInFlight: 1})
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		var running sync.WaitGroup
		running.Go(func() {
			if err := ask(ctx, t, q, "impatient"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
		synctest.Wait()
		start := time.Now()
		if err := ask(t.Context(), t, q, "patient"); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took != 51*time.Millisecond {
			t.Errorf("the next call took %v", took)
		}
		running.Wait()
		if err := ask(ctx, t, q, "too late"); !errors.Is(err, context.DeadlineExceeded) || len(l.sent()) != 2 {
			t.Errorf("a call of an ended context: %v, %d RPCs", err, len(l.sent()))
		}
	})
}

// A server that hangs keeps those whose calls it has, and nobody else for long.
func TestHangingRPCGivesItsPlaceAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: func(calls []*dataKeyCall) time.Duration {
			if string(calls[0].inputBytes()) == "lost" {
				return time.Hour
			}
			return time.Millisecond
		}}
		q := newTestQueue(t, l, Batching{MaxInFlight: 1})
		var running sync.WaitGroup
		for range 1 + maxOverdue {
			running.Go(func() {
				start := time.Now()
				if err := ask(t.Context(), t, q, "lost"); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v", err)
				}
				if took := time.Since(start); took < DefaultTimeout {
					t.Errorf("given up after %v", took)
				}
			})
			synctest.Wait()
			if n := len(l.sent()); n == 1 {
				start := time.Now()
				if err := ask(t.Context(), t, q, "lucky"); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > overdueAfter+10*time.Millisecond {
					t.Errorf("waited %v for an RPC that hangs", took)
				}
			}
			<-time.After(2 * overdueAfter)
		}
		if now, _ := l.underWay(); now != 1+maxOverdue {
			t.Errorf("%d RPCs under way, want %d", now, 1+maxOverdue)
		}
		start := time.Now()
		if err := ask(t.Context(), t, q, "bounded"); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < overdueAfter {
			t.Errorf("sent after %v beside %d RPCs that hang", took, 1+maxOverdue)
		}
		running.Wait()
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		l := &line{takes: always(time.Millisecond), answer: func(_ int, c *dataKeyCall) error {
			if string(c.inputBytes()) == "bad" {
				return refused
			}
			return nil
		}}
		q := newTestQueue(t, l, Batching{MaxInFlight: 1})
		for _, whole := range []error{nil, errors.New("unreachable")} {
			if whole != nil {
				q.send = func(context.Context, []*dataKeyCall) error {
					<-time.After(time.Millisecond)
					return whole
				}
			}
			var running sync.WaitGroup
			for i := range 20 {
				running.Go(func() {
					text, want := fmt.Sprint(i), whole
					if i%4 == 0 {
						text = "bad"
						if whole == nil {
							want = refused
						}
					}
					if err := ask(t.Context(), t, q, text); !errors.Is(err, want) {
						t.Errorf("caller %d got %v, want %v", i, err, want)
					}
				})
			}
			running.Wait()
		}
	})
}

// A batch ends before the message that carries it is full.
func TestBatchesFitIntoAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		l := &line{takes: func(calls []*dataKeyCall) time.Duration {
			size := 0
			for _, c := range calls {
				size += c.size()
			}
			sizes = append(sizes, size)
			return 10 * time.Millisecond
		}}
		q := newTestQueue(t, l, Batching{MaxInFlight: 1})
		var running sync.WaitGroup
		for i := range 200 {
			running.Go(func() {
				c, err := q.calls.get(kms.KeyName{}, fmt.Append(nil, i), kms.Binding{AAD: make([]byte, 60_000)})
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := carry(t.Context(), q.dataKeyQueue, c); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
		for _, size := range sizes {
			if size > maxBatchBytes {
				t.Errorf("a batch of %d bytes", size)
			}
		}
		if len(sizes) > 6 {
			t.Errorf("%d RPCs: sizes %v", len(sizes), sizes)
		}
	})
}

func TestQueuedBytesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q := newTestQueue(t, &line{takes: always(time.Hour)}, Batching{MaxInFlight: 1})
		var running sync.WaitGroup
		full := 0
		for range 2 * maxQueueBytes / 60_000 {
			c, err := q.calls.get(kms.KeyName{}, nil, kms.Binding{AAD: make([]byte, 60_000)})
			if err != nil {
				t.Fatal(err)
			}
			running.Go(func() {
				if _, err := carry(ctx, q.dataKeyQueue, c); errors.Is(err, ErrQueueFull) {
					full++
				}
			})
			synctest.Wait()
		}
		if full == 0 || q.bytes > maxQueueBytes {
			t.Errorf("%d bytes are waiting, %d calls were refused", q.bytes, full)
		}
		cancel()
		running.Wait()
		if q.waiting != 0 || q.bytes != 0 || q.head != nil || q.tail != nil {
			t.Errorf("%d calls of %d bytes are still waiting", q.waiting, q.bytes)
		}
	})
}

// Callers come, leave and change their memory in any order; run with the race detector.
func TestChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{takes: func(calls []*dataKeyCall) time.Duration {
			return time.Duration(len(calls)%7) * 300 * time.Microsecond
		}}
		q := newTestQueue(t, l, Batching{MaxItems: 8, MaxInFlight: 3})
		var running sync.WaitGroup
		for i := range 50 {
			running.Go(func() {
				for round := range 100 {
					input := fmt.Append(nil, i, ":", round)
					aad := bytes.Clone(input)
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i*round)%11)*400*time.Microsecond)
					c, err := q.calls.get(kms.KeyName{}, input, kms.Binding{AAD: aad})
					if err != nil {
						t.Error(err)
					}
					outcome, err := carry(ctx, q.dataKeyQueue, c)
					if err == nil && !bytes.Equal(outcome.DataKey, input) {
						t.Errorf("asked %q, got the answer to %q", input, []byte(outcome.DataKey))
					}
					if err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					clear(input)
					clear(aad)
					outcome.DataKey.Wipe()
					cancel()
				}
			})
		}
		running.Wait()
		synctest.Wait()
		if q.waiting != 0 || q.flying != 0 || q.flyingLoad != 0 || q.overdue != 0 {
			t.Errorf("not at rest: %d waiting, %d flying with %d, %d overdue", q.waiting, q.flying, q.flyingLoad, q.overdue)
		}
	})
}

func TestBatchingRefuses(t *testing.T) {
	for _, b := range []Batching{{MaxItems: -1}, {MaxItems: kms.MaxItems + 1}, {MaxInFlight: 65}, {MaxQueue: -5}} {
		_, err := Dial(t.Context(), Profile{Address: "unix:///nowhere"}, WithBatching(b))
		if !errors.Is(err, kms.ErrInvalidRequest) {
			t.Errorf("%+v: got %v", b, err)
		}
	}
}
