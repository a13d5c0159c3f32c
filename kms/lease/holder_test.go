package lease_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/kms/lease"
)

func TestMargin(t *testing.T) {
	for duration, want := range map[time.Duration]time.Duration{
		0:                      100 * time.Millisecond,
		500 * time.Millisecond: 100 * time.Millisecond,
		time.Second:            100 * time.Millisecond,
		5 * time.Second:        500 * time.Millisecond,
		time.Minute:            6 * time.Second,
	} {
		if got := lease.Margin(duration); got != want {
			t.Errorf("Margin(%v) = %v, want %v", duration, got, want)
		}
	}
}

// begin is Begin that must succeed.
func begin(t *testing.T, h *lease.Holder, now time.Duration, acknowledged uint64) lease.Renewal {
	t.Helper()
	r, err := h.Begin(now, acknowledged)
	if err != nil {
		t.Fatalf("Begin(%v, %d): %v", now, acknowledged, err)
	}
	return r
}

// committed is Committed that must succeed.
func committed(t *testing.T, h *lease.Holder, now time.Duration, r lease.Renewal, head uint64) {
	t.Helper()
	if err := h.Committed(now, r, head); err != nil {
		t.Fatalf("Committed(%v, %+v, %d): %v", now, r, head, err)
	}
}

// serving returns a holder of a lease of 5 s, margin 500 ms, that was renewed at 0 when the
// store was at revision 7.
func serving(t *testing.T) *lease.Holder {
	t.Helper()
	h := lease.NewHolder("a", 5*time.Second)
	committed(t, h, 0, begin(t, h, 0, 7), 7)
	committed(t, h, 0, begin(t, h, 0, 7), 7)
	return h
}

func TestHolderJoins(t *testing.T) {
	h := lease.NewHolder("a", 5*time.Second)
	refuses := func(when string) {
		t.Helper()
		if h.MayServe(0) || !errors.Is(h.Refusal(), lease.ErrNoLease) {
			t.Fatalf("%s: MayServe %v, Refusal %v", when, h.MayServe(0), h.Refusal())
		}
	}
	refuses("new")
	join := begin(t, h, 0, 5)
	if want := (lease.ID{Instance: "a", Join: 1}); !join.Join || join.ID != want || join.Applied != 5 || join.Duration != 5*time.Second {
		t.Fatalf("the first transaction is %+v", join)
	}
	refuses("joining")
	committed(t, h, 0, join, 5)
	refuses("joined: what the joining transaction read does not count")
	renewal := begin(t, h, time.Second, 5)
	if renewal.Join || renewal.ID != join.ID {
		t.Fatalf("the second transaction is %+v", renewal)
	}
	committed(t, h, time.Second, renewal, 7)
	refuses("catching up")
	if _, err := h.Begin(time.Second, 6); !errors.Is(err, lease.ErrBehind) {
		t.Fatalf("renewal while catching up: %v", err)
	}
	refuses("catching up still")
	h.CaughtUp(7)
	if h.Refusal() != nil || !h.MayServe(5500*time.Millisecond-1) || h.MayServe(5500*time.Millisecond) {
		t.Fatalf("caught up: Refusal %v; the lease is not good until 1s + 5s - 500ms", h.Refusal())
	}
	if h.ID().String() != "a/1" {
		t.Errorf("ID %v", h.ID())
	}
}

func TestRenewalThatComesTooLateIsNoUse(t *testing.T) {
	h := serving(t)
	renewal := begin(t, h, 4*time.Second, 7)
	if err := h.Committed(4500*time.Millisecond, renewal, 7); !errors.Is(err, lease.ErrLapsed) {
		t.Fatalf("confirmed when the lease had ended: %v", err)
	}
	if h.MayServe(4500 * time.Millisecond) {
		t.Fatal("it serves")
	}
	if r := begin(t, h, 5*time.Second, 7); !r.Join || r.ID.Join != 2 {
		t.Fatalf("the next transaction is %+v", r)
	}
}

func TestAnswersToWhatWasGivenUp(t *testing.T) {
	h := lease.NewHolder("a", 5*time.Second)
	old := begin(t, h, 0, 7)
	join := begin(t, h, 0, 7)
	if err := h.Committed(0, old, 7); !errors.Is(err, lease.ErrLapsed) {
		t.Fatalf("a join that was given up: %v", err)
	}
	committed(t, h, 0, join, 7)
	committed(t, h, 0, begin(t, h, 0, 7), 7)
	h.Missing(old)
	if !h.MayServe(0) {
		t.Fatal("what was given up ended the lease")
	}
	h.Missing(join)
	if h.MayServe(0) {
		t.Fatal("it serves without a row")
	}
}

func TestStoreThatWentBackwardsIsRefusedForGood(t *testing.T) {
	for name, known := range map[string]func(*lease.Holder) lease.Renewal{
		"below what is applied": func(h *lease.Holder) lease.Renewal { return begin(t, h, 0, 9) },
		"below what was read": func(h *lease.Holder) lease.Renewal {
			committed(t, h, 0, begin(t, h, 0, 7), 9)
			return begin(t, h, 0, 9)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := serving(t)
			renewal := known(h)
			if err := h.Committed(0, renewal, 8); !errors.Is(err, lease.ErrStoreWentBackwards) {
				t.Fatalf("Committed: %v", err)
			}
			if err := h.Committed(0, renewal, 9); !errors.Is(err, lease.ErrStoreWentBackwards) {
				t.Errorf("and then: %v", err)
			}
			if _, err := h.Begin(0, 9); !errors.Is(err, lease.ErrStoreWentBackwards) {
				t.Errorf("Begin: %v", err)
			}
			h.Leave()
			if h.MayServe(0) || !errors.Is(h.Refusal(), lease.ErrStoreWentBackwards) {
				t.Errorf("MayServe %v, Refusal %v", h.MayServe(0), h.Refusal())
			}
		})
	}
}

func TestGivingUpIsJoiningAnew(t *testing.T) {
	h := serving(t)
	renewal := begin(t, h, 0, 7)
	h.GiveUp()
	if h.MayServe(0) || !errors.Is(h.Refusal(), lease.ErrNoLease) {
		t.Fatalf("MayServe %v, Refusal %v", h.MayServe(0), h.Refusal())
	}
	if err := h.Committed(0, renewal, 7); !errors.Is(err, lease.ErrLapsed) {
		t.Errorf("a renewal that was under way: %v", err)
	}
	h.CaughtUp(8)
	if h.MayServe(0) {
		t.Error("it serves because more is acknowledged")
	}
	join := begin(t, h, 0, 8)
	if !join.Join || join.ID.Join != renewal.ID.Join+1 {
		t.Fatalf("the next transaction is %+v", join)
	}
	committed(t, h, 0, join, 8)
	committed(t, h, 0, begin(t, h, 0, 8), 8)
	if !h.MayServe(0) {
		t.Error("it does not serve after it has joined anew")
	}
}

func TestSeenTellsOfAStoreThatWentBackwards(t *testing.T) {
	h := serving(t)
	for _, head := range []uint64{7, 9} {
		if err := h.Seen(head); err != nil || !h.MayServe(0) {
			t.Errorf("Seen(%d): %v, MayServe %v", head, err, h.MayServe(0))
		}
	}
	if err := h.Seen(8); !errors.Is(err, lease.ErrStoreWentBackwards) {
		t.Errorf("Seen(8) after 9: %v", err)
	}
	if h.MayServe(0) || !errors.Is(h.Refusal(), lease.ErrStoreWentBackwards) {
		t.Errorf("MayServe %v, Refusal %v", h.MayServe(0), h.Refusal())
	}
	if err := h.Seen(9); !errors.Is(err, lease.ErrStoreWentBackwards) {
		t.Errorf("and then Seen(9): %v", err)
	}
	h = serving(t)
	h.CaughtUp(8)
	if err := h.Seen(7); !errors.Is(err, lease.ErrStoreWentBackwards) {
		t.Errorf("Seen(7) when 8 is acknowledged: %v", err)
	}
}

func TestCountersAreUsedOnce(t *testing.T) {
	h := lease.NewHolder("a", 5*time.Second)
	used := map[uint64]bool{}
	for i := range 20 {
		r := begin(t, h, 0, 7)
		if used[r.Counter] {
			t.Fatalf("the counter %d again", r.Counter)
		}
		used[r.Counter] = true
		switch i % 5 {
		case 0, 1, 2:
			committed(t, h, 0, r, 7)
		case 3:
			h.GiveUp()
		}
	}
}

func TestLeaveIsForGood(t *testing.T) {
	h := serving(t)
	renewal := begin(t, h, 0, 7)
	h.Leave()
	if err := h.Committed(0, renewal, 7); !errors.Is(err, lease.ErrLeft) {
		t.Errorf("Committed: %v", err)
	}
	h.CaughtUp(8)
	if h.MayServe(0) || !errors.Is(h.Refusal(), lease.ErrLeft) {
		t.Errorf("MayServe %v, Refusal %v", h.MayServe(0), h.Refusal())
	}
}

// Whatever the store answers and however clock and changes go on, a holder serves only
// by a renewal that it began less than the lease before, of a join after which it read
// the revision and acknowledged it, without a gap since.
func TestHolderServesOnlyByALiveLease(t *testing.T) {
	const duration = 2 * time.Second
	length := duration - lease.Margin(duration)
	rapid.Check(t, func(rt *rapid.T) {
		h := lease.NewHolder("a", duration)
		var (
			now                time.Duration
			head, acknowledged uint64
			pending            []lease.Renewal
			sent               []time.Duration
			end                time.Duration // of the lease of join, as an observer reckons it
			join               uint64        // confirmed last
			told, required     uint64        // by the first renewal of that join; by the latest
			renewed, alive     bool
		)
		check := func(*rapid.T) {
			alive = alive && now < end
			want := alive && renewed && acknowledged >= told
			if got := h.MayServe(now); got && !want {
				rt.Fatalf("serves at %v, the lease ending at %v (alive %v, renewed %v, acknowledged %d of %d)",
					now, end, alive, renewed, acknowledged, told)
			} else if !got && want {
				rt.Fatalf("does not serve at %v, the lease ending at %v", now, end)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"": check,
			"time": func(rt *rapid.T) {
				now += time.Duration(rapid.IntRange(1, 900).Draw(rt, "ms")) * time.Millisecond
			},
			"change": func(*rapid.T) { head++ },
			"give up": func(*rapid.T) {
				h.GiveUp()
				alive, pending, sent = false, nil, nil
			},
			"examine": func(rt *rapid.T) {
				if err := h.Seen(head); err != nil {
					rt.Fatalf("Seen(%d): %v", head, err)
				}
			},
			"apply": func(rt *rapid.T) {
				acknowledged = rapid.Uint64Range(acknowledged, head).Draw(rt, "acknowledged")
				h.CaughtUp(acknowledged)
			},
			"begin": func(rt *rapid.T) {
				r, err := h.Begin(now, acknowledged)
				if behind := alive && renewed && acknowledged < required; behind != errors.Is(err, lease.ErrBehind) {
					rt.Fatalf("Begin: %v, acknowledged %d of %d", err, acknowledged, required)
				} else if behind {
					return
				}
				if r.Join == alive || r.Applied != acknowledged {
					rt.Fatalf("alive %v, acknowledged %d: Begin returns %+v", alive, acknowledged, r)
				}
				pending, sent = append(pending, r), append(sent, now)
			},
			"answer": func(rt *rapid.T) {
				if len(pending) == 0 {
					rt.Skip("nothing is under way")
				}
				i := len(pending) - 1 // callers give up all but the latest
				r := pending[i]
				err := h.Committed(now, r, head)
				useful := now < sent[i]+length && (r.Join || alive)
				if useful != (err == nil) {
					rt.Fatalf("Committed(%v, %+v): %v", now, r, err)
				}
				alive = useful
				switch {
				case useful && r.Join:
					join, end, renewed = r.ID.Join, sent[i]+length, false
				case useful:
					if r.ID.Join != join {
						rt.Fatalf("renews join %d, joined %d", r.ID.Join, join)
					}
					if !renewed {
						told = head
					}
					renewed, end, required = true, max(end, sent[i]+length), head
				}
				pending, sent = nil, nil
			},
		})
	})
}

func TestMayServeWhileRenewing(t *testing.T) {
	h := serving(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if !h.MayServe(0) || h.Refusal() != nil {
					t.Error("refuses under a live lease")
					return
				}
			}
		})
	}
	for i := range time.Duration(1000) {
		committed(t, h, i*time.Second, begin(t, h, i*time.Second, 7), 7)
	}
	close(stop)
	wg.Wait()
}

func TestMayServeDoesNotAllocate(t *testing.T) {
	h := serving(t)
	if n := testing.AllocsPerRun(100, func() {
		if !h.MayServe(1) || h.Refusal() != nil {
			t.Error("refuses under a live lease")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMayServe(b *testing.B) {
	h := lease.NewHolder("a", time.Second)
	for b.Loop() {
		h.MayServe(1)
	}
}
