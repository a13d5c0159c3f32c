package bench

import (
	"context"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/keyholt/keyholt/bench/loadgen"
)

// cell is a scenario that is ready to run.
type cell struct {
	scenario Scenario
	live     *live
	// connections that its callers share
	connections []*connection
	calls       []call
	result      ScenarioResult
}

// run measures one round. rate is that of an open run, in requests a second.
func (c *cell) run(ctx context.Context, warmUp, window time.Duration, rate float64, seed uint64) (Round, error) {
	if c.live.token != nil {
		return c.live.token.round(ctx, c.scenario, window)
	}
	before, err := c.reading(ctx)
	if err != nil {
		return Round{}, err
	}
	var answered atomic.Int64
	conns := c.connections
	operation := func(ctx context.Context, caller int, n int64) (int, error) {
		err := c.calls[n%int64(len(c.calls))].make(ctx, conns[caller%len(conns)])
		if err == nil {
			answered.Add(int64(c.scenario.Batch))
		}
		return c.scenario.Batch, err
	}
	measured, err := c.load(ctx, operation, warmUp, window, rate, seed)
	if err != nil {
		return Round{}, err
	}
	after, err := c.reading(ctx)
	if err != nil {
		return Round{}, err
	}
	if measured.FirstError != nil && c.result.FirstFail == "" {
		c.result.FirstFail = measured.FirstError.Error()
	}
	round := newRound(measured, rate)
	if n := float64(answered.Load()); n > 0 {
		round.ServerCPU = float64((after.server - before.server).Microseconds()) / n
		round.ClientCPU = float64((after.client - before.client).Microseconds()) / n
	}
	if total := after.total - before.total; total > 0 {
		ours := after.server - before.server + after.client - before.client
		round.OthersCPU = max(0, float64(after.used-before.used-ours)/float64(total))
	}
	if items := after.items - before.items; items > 0 {
		perItem := (after.tokenCalls - before.tokenCalls) / items
		round.TokenCalls = &perItem
	}
	return round, nil
}

func (c *cell) load(
	ctx context.Context, op loadgen.Operation, warmUp, window time.Duration, rate float64, seed uint64,
) (*loadgen.Result, error) {
	if rate > 0 {
		return loadgen.Open{
			Rate: rate, Callers: c.scenario.Callers, WarmUp: warmUp, Window: window, Seed: seed, Grace: 10 * time.Second,
		}.Run(ctx, op)
	}
	all := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(c.scenario.processors(all)))
	return loadgen.Closed{Callers: c.scenario.Callers, WarmUp: warmUp, Window: window}.Run(ctx, op)
}

// reading is what is read before and after a run.
type reading struct {
	counters
	server, client time.Duration // CPU time
	used, total    time.Duration // of the machine
}

func (c *cell) reading(ctx context.Context) (r reading, err error) {
	if c.live.metrics != "" {
		r.counters, err = readCounters(ctx, c.live.metrics)
	}
	r.server, r.client = cpuTime(c.live.pid()), cpuTime(os.Getpid())
	r.used, r.total = busyTime()
	return r, err
}

func newRound(m *loadgen.Result, rate float64) Round {
	micros := func(p float64) float64 { return float64(m.Percentile(p).Nanoseconds()) / 1e3 }
	return Round{
		ItemsPerSecond:    m.ItemsPerSecond(),
		RequestsPerSecond: m.RequestsPerSecond(),
		OfferedPerSecond:  rate,
		P50:               micros(50),
		P90:               micros(90),
		P99:               micros(99),
		P999:              micros(99.9),
		Max:               micros(100),
		Errors:            float64(m.Errors),
		Unserved:          float64(m.Unserved),
	}
}
