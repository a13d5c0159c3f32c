package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// Run runs the groups one after another and reports. It leaves no process and no file
// behind, whatever happens. A report with failed requests is returned, and says so.
func Run(ctx context.Context, o Options) (_ *Report, err error) {
	o, err = o.withDefaults()
	if err != nil {
		return nil, err
	}
	started := time.Now()
	places, clean, err := newSites(&o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, clean()) }()
	r := &runner{Options: o, sites: places, report: &Report{
		Format: reportFormat, Suite: o.Suite, Started: started.UTC().Truncate(time.Second),
		Environment: environment(ctx, o.KMSD),
		Settings: Settings{
			Rounds: o.Rounds, WindowSeconds: o.Window.Seconds(), WarmUpSeconds: o.WarmUp.Seconds(),
			HSMLatency: o.HSMLatency.String(), Connections: o.Connections,
		},
	}}
	r.total = o.runs()
	if err := places.prepare(ctx, o.scenarios(), r.say); err != nil {
		return nil, err
	}
	if o.TokenRates {
		r.say("measuring the token by itself")
		if r.report.Token, err = places.tokenRates(ctx, o.HSMLatency, o.Window/4); err != nil {
			return nil, err
		}
	}
	for _, g := range o.Groups {
		if err := r.group(ctx, g); err != nil {
			return nil, fmt.Errorf("%s: %w", g.Name, err)
		}
	}
	r.report.judge(Claims(), o.HSMLatency)
	r.report.Seconds = time.Since(started).Seconds()
	return r.report, nil
}

// memoryDirectory is a file system in memory that Linux has.
const memoryDirectory = "/dev/shm"

// newSites makes the directories of a run, and returns what deletes them.
func newSites(o *Options) (*sites, func() error, error) {
	work, err := os.MkdirTemp(o.TempDir, "kmsbench-")
	if err != nil {
		return nil, nil, err
	}
	scratch, err := os.MkdirTemp(memoryDirectory, "kmsbench-")
	if err != nil {
		scratch = filepath.Join(work, "scratch")
	}
	places := &sites{
		kmsd: o.KMSD, echo: o.Echo, work: work, scratch: scratch,
		origins: map[int]*site{}, items: map[int]*fixture{},
	}
	return places, func() error { return errors.Join(os.RemoveAll(work), os.RemoveAll(scratch)) }, nil
}

type runner struct {
	Options
	sites       *sites
	report      *Report
	done, total int
}

func (r *runner) say(text string) {
	r.Progress(Event{Text: text, Done: r.done, Total: r.total})
}

// group runs one group: its servers live as long as it does.
func (r *runner) group(ctx context.Context, g Group) (err error) {
	servers := map[Server]*live{}
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.close())
		}
	}()
	cells := make([]*cell, len(g.Scenarios))
	for i, s := range g.Scenarios {
		server, ok := servers[s.Server]
		if !ok {
			r.say(g.Name + ": starting a server for " + s.Name())
			if server, err = r.start(ctx, s.Server); err != nil {
				return err
			}
			servers[s.Server] = server
		}
		if cells[i], err = r.cell(ctx, g, s, server); err != nil {
			return err
		}
	}
	for round := range g.Rounds {
		order := slices.Clone(cells)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range order {
			if err := r.round(ctx, g, c, round); err != nil {
				return err
			}
		}
	}
	for _, c := range cells {
		c.result.Median = medianRound(c.result.Rounds)
		if c.live.running != nil {
			c.result.PeakMiB = peakMemory(c.live.pid())
		}
		r.report.Scenarios = append(r.report.Scenarios, c.result)
	}
	return nil
}

// live is a server with connections to it, or a token without one.
type live struct {
	*running
	connections map[Via][]*connection // those of Stub and of Lean, made when they are first needed
	token       *tokenBench           // nil: a server
}

func (r *runner) start(ctx context.Context, server Server) (*live, error) {
	if server.Token {
		token, err := r.sites.tokenAlone(ctx, server)
		return &live{token: token}, err
	}
	s, err := r.sites.start(ctx, server)
	if err != nil {
		return nil, err
	}
	if token := s.log.openedToken(); token.Model != "" {
		r.report.Environment.Token, r.report.Environment.Module = token.Model, r.sites.origins[server.Versions].module
	}
	return &live{running: s, connections: map[Via][]*connection{}}, nil
}

// failed returns an error if the server has ended by itself.
func (l *live) failed() error {
	if l.running == nil {
		return nil
	}
	return l.running.failed()
}

// connect returns the connections of a scenario's callers, n at most.
func (l *live) connect(ctx context.Context, s Scenario, n int) (list []*connection, err error) {
	v := s.Via
	if v == Merged {
		v = Stub // the same clients
	}
	if list = l.connections[v]; list == nil {
		if list, err = dialAll(ctx, l.profile, n, v); err != nil {
			return nil, err
		}
		l.connections[v] = list
	}
	if s.Via == Merged {
		list = list[:1] // what one client merges
	}
	return list, nil
}

func (l *live) close() error {
	if l.running == nil {
		return nil
	}
	err := l.failed()
	for _, list := range l.connections {
		err = errors.Join(err, closeAll(list))
	}
	l.stop()
	return err
}

// cell prepares a scenario and makes sure that its requests are answered rightly.
func (r *runner) cell(ctx context.Context, g Group, s Scenario, server *live) (*cell, error) {
	if server.token != nil {
		return &cell{scenario: s, live: server, result: ScenarioResult{Name: s.Name(), Group: g.Name, Scenario: s}}, nil
	}
	requests, err := calls(s, r.sites.items[s.Server.Versions].items[s.set()])
	if err != nil {
		return nil, err
	}
	conns, err := server.connect(ctx, s, r.Connections)
	if err != nil {
		return nil, err
	}
	c := &cell{
		scenario: s, live: server, connections: conns, calls: requests,
		result: ScenarioResult{Name: s.Name(), Group: g.Name, Scenario: s},
	}
	if s.Server.Echo {
		return c, nil
	}
	if err := c.calls[0].verify(ctx, conns[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name(), err)
	}
	return c, nil
}

func (r *runner) round(ctx context.Context, g Group, c *cell, round int) error {
	runtime.GC() // what the run before has left is not this one's to collect
	rate := 0.0
	if c.scenario.Load > 0 {
		capacity := r.report.find(c.scenario.capacity().Name())
		if capacity == nil {
			return fmt.Errorf("%s: its load is a share of %s, which was not run", c.scenario.Name(), c.scenario.capacity().Name())
		}
		rate = c.scenario.Load * capacity.Median.RequestsPerSecond
	}
	result, err := c.run(ctx, g.warmUp, g.Window, rate, uint64(round))
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", c.scenario.Name(), err), c.live.failed())
	}
	c.result.Rounds = append(c.result.Rounds, result)
	r.done++
	r.say(fmt.Sprintf("round %d/%d  %s  %s items/s, p50 %s", round+1, g.Rounds, c.scenario.Name(),
		number(result.ItemsPerSecond), microseconds(result.P50)))
	return nil
}
