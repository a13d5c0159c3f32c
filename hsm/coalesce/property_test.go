package coalesce_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/coalesce"
	"github.com/keyholt/keyholt/hsm/hsmtest"
)

// plan is one run: requests, and what the token does.
type plan struct {
	cfg      coalesce.Config
	requests []planned
	calls    []callPlan // repeated over and over
}

type planned struct {
	key     hsm.UID
	blocks  int
	at      time.Duration // from the beginning
	givesUp time.Duration // after that; 0: never
	refused bool          // by its admission
}

type callPlan struct {
	takes time.Duration
	err   error // nil, or fails
	blows bool
}

var faults = []error{nil, nil, nil, nil, hsm.ErrUnavailable, hsm.ErrArgument}

func drawPlan(t *rapid.T) plan {
	micros := func(name string, most int) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, name)) * time.Microsecond
	}
	p := plan{cfg: coalesce.Config{
		MaxBytes:         16 * rapid.IntRange(1, 40).Draw(t, "blocks per call"),
		MaxCalls:         rapid.IntRange(1, 5).Draw(t, "calls"),
		MaxQueueRequests: rapid.IntRange(2, 60).Draw(t, "queue"),
		Dispatchers:      rapid.IntRange(1, 5).Draw(t, "dispatchers"),
		SlowCall:         1 + micros("slow call", 1500),
	}}
	for range rapid.IntRange(1, 60).Draw(t, "requests") {
		r := planned{
			key:     hsm.UID{byte(rapid.IntRange(1, 3).Draw(t, "key"))},
			blocks:  rapid.IntRange(1, 12).Draw(t, "blocks"),
			at:      micros("at", 3000),
			refused: rapid.IntRange(0, 9).Draw(t, "refused") == 0,
		}
		if rapid.IntRange(0, 3).Draw(t, "patient") == 0 {
			r.givesUp = 1 + micros("gives up", 2000)
		}
		p.requests = append(p.requests, r)
	}
	for range rapid.IntRange(1, 8).Draw(t, "token calls") {
		p.calls = append(p.calls, callPlan{
			takes: micros("takes", 1500),
			err:   rapid.SampledFrom(faults).Draw(t, "err"),
			blows: rapid.IntRange(0, 15).Draw(t, "panic") == 0,
		})
	}
	return p
}

// run is a plan being carried out.
type run struct {
	*world
	plan

	mu       sync.Mutex
	inFlight map[hsm.UID]int
	all      int
	wrong    []error
	outcomes map[string]uint64
}

func (r *run) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

// call is what a token call does before it encrypts.
func (r *run) call(_ context.Context, call hsmtest.Call) error {
	step := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inFlight[call.Key] += n
		r.all += n
		if r.inFlight[call.Key] > max(1, r.cfg.Dispatchers) || r.all > r.cfg.MaxCalls {
			r.wrong = append(r.wrong, fmt.Errorf("%d calls of one key, %d in all", r.inFlight[call.Key], r.all))
		}
	}
	step(1)
	defer step(-1)
	what := r.calls[call.Number%len(r.calls)]
	pass(what.takes)
	if what.blows {
		blow("planned")
	}
	return what.err
}

// request carries one request out. Its buffer is watched until the end of the run.
func (r *run) request(q planned) (unchanged func() bool) {
	pass(q.at)
	ctx := r.Context()
	if q.givesUp > 0 {
		limited, cancel := context.WithTimeout(ctx, q.givesUp)
		defer cancel()
		ctx = limited
	}
	src, err := bytes.Repeat([]byte{byte(q.blocks), byte(q.at), byte(q.at >> 8), 3}, 4*q.blocks), errors.New("panic")
	buffer := bytes.Clone(src)
	func() {
		defer func() { _ = recover() }()
		err = r.blocks.EncryptBlocksIf(ctx, q.key, buffer, buffer, func() error {
			if q.refused {
				return errRevoked
			}
			return nil
		})
	}()
	outcome := r.judge(q, err, bytes.Equal(buffer, r.encrypted(q.key, src)))
	r.mu.Lock()
	r.outcomes[outcome]++
	r.mu.Unlock()
	after := bytes.Clone(buffer)
	return func() bool { return bytes.Equal(buffer, after) }
}

// judge names the outcome of a request, and complains of one that it cannot have.
func (r *run) judge(q planned, err error, encrypted bool) string {
	switch {
	case err == nil:
		if !encrypted || q.refused {
			r.complain("%+v: encrypted %v", q, encrypted)
		}
		return "served"
	case errors.Is(err, hsm.ErrBusy):
		return "busy"
	case errors.Is(err, errRevoked):
		if !q.refused {
			r.complain("%+v: %w", q, err)
		}
		return "refused"
	case errors.Is(err, context.DeadlineExceeded):
		if q.givesUp == 0 {
			r.complain("%+v: %w", q, err)
		}
		return "gave up"
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrArgument), err.Error() == "panic":
		return "failed"
	default:
		r.complain("%+v: %w", q, err)
		return "failed"
	}
}

// carryOut runs the plan and returns what was wrong.
func carryOut(t *testing.T, p plan) []error {
	r := &run{world: newWorld(t, p.cfg), plan: p, inFlight: map[hsm.UID]int{}, outcomes: map[string]uint64{}}
	r.addKey(hsm.UID{3})
	r.token.Hook(hsmtest.MethodEncryptBlocks, r.call)
	unchanged := make([]func() bool, len(p.requests))
	var wg sync.WaitGroup
	for i, q := range p.requests {
		wg.Go(func() { unchanged[i] = r.request(q) })
	}
	wg.Wait()
	if err := r.blocks.Close(); err != nil {
		r.complain("Close: %w", err)
	}
	for i := range unchanged {
		if !unchanged[i]() {
			r.complain("the buffer of %+v was written afterwards", p.requests[i])
		}
	}
	maxBytes := p.cfg.MaxBytes
	for _, size := range r.sizes() {
		if size > maxBytes && size > 16*12 {
			r.complain("a merged call of %d bytes, bound %d", size, maxBytes)
		}
	}
	s, o := r.stats(), r.outcomes
	if s.QueueRequests != 0 || s.QueueBytes != 0 || s.InFlight != 0 || s.ActiveKeys != 0 {
		r.complain("something is left: %+v", s)
	}
	if s.Calls != uint64(len(r.sizes())) || s.Rejected != o["busy"] || s.Refused != o["refused"] {
		r.complain("counts are wrong: %v, %+v", o, s)
	}
	// A call on the caller's own goroutine can end with the caller's context, too.
	if gone := s.Cancelled + s.Abandoned; gone > o["gave up"] || gone+s.Failed < o["gave up"] {
		r.complain("%d gave up, counted %d", o["gave up"], gone)
	}
	return r.wrong
}

// TestAnyInterleaving: whatever comes when, and whatever the token does, each
// request gets the AES of its own blocks or an error that is its own or the token's.
func TestAnyInterleaving(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPlan(rt)
		var wrong []error
		synctest.Test(t, func(t *testing.T) { wrong = carryOut(t, p) })
		if len(wrong) > 0 {
			rt.Fatalf("%v", errors.Join(wrong...))
		}
	})
}
