package prove

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
)

// The load on each replica: requests start at random moments, whatever became of those before.
const (
	unaryRate = 300 // requests a second, of one item each
	batchRate = 2   // requests a second
	batchSize = 256 // items
	// mostInFlight is how many requests may be under way on a connection; a server lets
	// no more than 256 begin. Those that would be more are left out, and counted.
	mostInFlight = 240
	// requestTimeout is longer than any replica is disturbed.
	requestTimeout = 15 * time.Second
)

// operation makes one request of some items, and counts what became of them.
type operation func(ctx context.Context, r *replica, count *tally, random *rand.Rand, items int)

// load makes requests on all replicas until it is stopped.
type load struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	began   time.Time
	ended   time.Time
	tallies []*tally // by replica
}

// startLoad starts the load; stop ends it.
func startLoad(t *testing.T, d *deployment, op operation) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{cancel: cancel, began: time.Now()}
	for _, r := range d.replicas {
		count := newTally()
		l.tallies = append(l.tallies, count)
		slots := make(chan struct{}, mostInFlight)
		for rate, items := range map[float64]int{unaryRate: 1, batchRate: batchSize} {
			l.running.Go(func() {
				l.arrivals(ctx, rate, items, slots, count, func(ctx context.Context, random *rand.Rand) {
					op(ctx, r, count, random, items)
				})
			})
		}
	}
	t.Cleanup(l.stop)
	return l
}

// arrivals makes requests as a Poisson process.
func (l *load) arrivals(
	ctx context.Context, rate float64, items int, slots chan struct{}, count *tally, request func(context.Context, *rand.Rand),
) {
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	next := time.Now()
	for {
		next = next.Add(time.Duration(random.ExpFloat64() / rate * float64(time.Second)))
		if !pause(ctx, time.Until(next)) {
			return
		}
		select {
		case slots <- struct{}{}:
		default:
			count.dropped.Add(1)
			continue
		}
		count.sent.Add(1)
		count.items.Add(int64(items))
		seed := random.Uint64()
		l.running.Go(func() {
			defer func() { <-slots }()
			// Not that of the load: what has begun when it ends is to be answered.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
			defer cancel()
			request(ctx, rand.New(rand.NewPCG(seed, 0)))
		})
	}
}

// stop ends the load and waits for the answers.
func (l *load) stop() {
	l.cancel()
	l.running.Wait()
	if l.ended.IsZero() {
		l.ended = time.Now()
	}
}

// tally counts the requests on one replica and what became of their items.
type tally struct {
	sent, dropped, items atomic.Int64

	mu       sync.Mutex
	outcomes map[string]int // items, by reason; "OK" for those that were served
}

func newTally() *tally { return &tally{outcomes: make(map[string]int)} }

func (c *tally) add(outcome string, items int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[outcome] += items
}

// report writes what was offered and what came of it.
func (l *load) report(t *testing.T, d *deployment) {
	t.Helper()
	seconds := l.ended.Sub(l.began).Seconds()
	for i, c := range l.tallies {
		t.Logf("load on %s: %d requests in %.0f s (%.0f a second), %d items (%.0f a second), %d not made because %d were under way; items: %s",
			d.replicas[i].name, c.sent.Load(), seconds, float64(c.sent.Load())/seconds, c.items.Load(),
			float64(c.items.Load())/seconds, c.dropped.Load(), mostInFlight, listed(c.outcomes))
	}
}

// listed writes counts by name.
func listed(counts map[string]int) string {
	if len(counts) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}

// reason names an error: by the service's reason, or by the code of gRPC if the service
// was not reached.
func reason(err error) string {
	var told *kms.Error
	switch {
	case err == nil:
		return outcomeOK
	case errors.As(err, &told):
		return wire.Reason(err)
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "gRPC " + status.Code(err).String()
}

// isUnavailable tells whether a replica may answer so while something it needs is away:
// with the code UNAVAILABLE, or not at all.
func isUnavailable(err error) bool {
	for _, sentinel := range []error{
		kms.ErrLeaseLapsed, kms.ErrStoreUnavailable, kms.ErrOverloaded, kms.ErrShuttingDown, context.DeadlineExceeded,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return reason(err) == "gRPC Unavailable"
}

// code is that of gRPC by which the error came over the wire.
func code(err error) codes.Code {
	var told *kms.Error
	if errors.As(err, &told) {
		for _, row := range wire.Rows() {
			if row.Sentinel == told.Sentinel { //nolint:errorlint // rows are found by identity
				return row.Code
			}
		}
	}
	return status.Code(err)
}

// problems collects what must not happen, and keeps the first few.
type problems struct {
	mu    sync.Mutex
	count int
	first []string
}

const problemsShown = 10

func (p *problems) add(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count++; len(p.first) < problemsShown {
		p.first = append(p.first, fmt.Sprintf(format, args...))
	}
}

// report fails the test if there are any.
func (p *problems) report(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count > 0 {
		t.Errorf("%d problems, such as:\n%s", p.count, strings.Join(p.first, "\n"))
	}
}
