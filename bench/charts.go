package bench

import (
	"cmp"
	"slices"
	"time"
)

// chart is a plot as data.
type chart struct {
	name       string // of its files
	title      string
	note       string // how to read it
	x, y       string // what the axes are
	logX, logY bool
	series     []series
}

type series struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

// charts are the plots that the report has figures for.
func (r *Report) charts() []chart {
	all := []chart{r.byBatchSize(), r.byLoad(), r.byHSMLatency()}
	for i := range all {
		all[i].series = slices.DeleteFunc(all[i].series, func(s series) bool { return len(s.points) < 2 })
	}
	return slices.DeleteFunc(all, func(c chart) bool { return len(c.series) == 0 })
}

// collect makes a series of the scenarios that belong to it.
func (r *Report) collect(name string, place func(*ScenarioResult) (point, bool)) series {
	s := series{name: name}
	for i := range r.Scenarios {
		if p, ok := place(&r.Scenarios[i]); ok {
			s.points = append(s.points, p)
		}
	}
	slices.SortFunc(s.points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	return s
}

func (r *Report) byBatchSize() chart {
	c := chart{
		name: "throughput-by-batch-size", title: "Unwraps a second by batch size", x: "items in a request", y: "items/s",
		logX: true, logY: true,
		note: "Closed runs, one KMS key, over TLS. Single items with 64 callers, batches with 4.",
	}
	for _, target := range []string{"echo", string(Derived), string(Strict)} {
		c.series = append(c.series, r.collect(target, func(s *ScenarioResult) (point, bool) {
			sc := s.Scenario
			plain := sc.Operation == Unwrap && sc.keys() == 1 && sc.Context == 0 && sc.Via == Stub && sc.Load == 0 &&
				sc.Server.Sessions == 0 && sc.Server.Versions == 0 && sc.Callers <= unaryCallers && s.Group != "memory"
			return point{float64(sc.Batch), s.Median.ItemsPerSecond}, plain && sc.target() == target
		}))
	}
	return c
}

func (r *Report) byLoad() chart {
	c := chart{
		name: "latency-by-load", title: "Latency of a single unwrap by load", x: "requests/s offered", y: "latency in ms",
		logY: true,
		note: "Open runs: requests start at random, whatever becomes of those before; latency from the intended start. " +
			"The loads are shares of what kmsd reaches with 64 callers.",
	}
	for _, target := range []string{string(Derived), "echo"} {
		for _, percentile := range []struct {
			name string
			of   func(*Round) float64
		}{
			{"p50", func(m *Round) float64 { return m.P50 }},
			{"p99", func(m *Round) float64 { return m.P99 }},
			{"p99.9", func(m *Round) float64 { return m.P999 }},
		} {
			c.series = append(c.series, r.collect(target+" "+percentile.name, func(s *ScenarioResult) (point, bool) {
				return point{s.Median.OfferedPerSecond, percentile.of(&s.Median) / 1e3},
					s.Scenario.Load > 0 && s.Scenario.target() == target
			}))
		}
	}
	return c
}

func (r *Report) byHSMLatency() chart {
	c := chart{
		name: "effect-of-hsm-latency", title: "Unwraps a second by latency of the HSM",
		x: "delay of each token operation in ms", y: "items/s", logY: true,
		note: "Closed runs, 4 sessions with the token. A module between kmsd and SoftHSM2 delays each operation.",
	}
	for _, line := range []struct {
		name  string
		batch int
		each  bool
	}{
		{"batches of 1,024, 4 callers", mainBatch, false},
		{"single items, 64 callers", 1, false},
		{"single items, 64 callers, one token call each", 1, true},
	} {
		c.series = append(c.series, r.collect(line.name, func(s *ScenarioResult) (point, bool) {
			sc := s.Scenario
			return point{float64(sc.Server.HSMLatency) / float64(time.Millisecond), s.Median.ItemsPerSecond},
				sc.Server.Sessions == slowSessions && sc.Batch == line.batch && sc.Server.OneCallEach == line.each
		}))
	}
	return c
}
