package bench

import (
	"errors"
	"fmt"
	"io"

	"github.com/aclements/go-moremath/stats"
	"github.com/jedib0t/go-pretty/v6/table"
)

// CompareOptions say what counts as a change.
type CompareOptions struct {
	// Alpha is the level of significance: how often a figure that has not changed may be
	// called changed. Default 0.05.
	Alpha float64
	// Threshold is the least change of a median that matters, as a share. Default 0.05.
	Threshold float64
}

// Comparison is what became of every figure that two reports share.
type Comparison struct {
	Changes []Change
	// Differences names what is not alike in the environments or settings, so that the
	// changes may have another cause than the program.
	Differences []string
}

// Change is one figure in two reports.
type Change struct {
	Name     string  // of the scenario or claim
	Figure   string  // what was measured
	Old, New float64 // medians
	// P is the two-sided p-value of the Mann-Whitney U test on the rounds; 1 if all are equal.
	P       float64
	Verdict Verdict
}

// Verdict is what a change means.
type Verdict string

// The verdicts.
const (
	Same       Verdict = "~"
	Better     Verdict = "better"
	Regression Verdict = "REGRESSION"
	// TooFew is a median that has moved, of so few rounds that the test could never say
	// whether by chance.
	TooFew Verdict = "too few rounds"
)

// ratio is the change as a factor.
func (c *Change) ratio() float64 {
	if c.Old == 0 {
		return 1
	}
	return c.New / c.Old
}

// Compare tells two reports apart. A figure has changed if the Mann-Whitney U test, which
// assumes nothing of how measurements scatter, says that its rounds differ, and its
// median has moved by more than the threshold.
func Compare(older, newer *Report, o CompareOptions) (*Comparison, error) {
	if o.Alpha == 0 {
		o.Alpha = 0.05
	}
	if o.Threshold == 0 {
		o.Threshold = 0.05
	}
	c := &Comparison{Differences: differences(older, newer)}
	for i := range older.Claims {
		was := &older.Claims[i]
		for k := range newer.Claims {
			if is := &newer.Claims[k]; is.Name == was.Name && is.Of == was.Of && is.Over == was.Over {
				c.Changes = append(c.Changes, o.change(was.Name, "ratio", was.Rounds, is.Rounds, was.AtMost == 0))
			}
		}
	}
	for i := range older.Scenarios {
		was := &older.Scenarios[i]
		if is := newer.find(was.Name); is != nil {
			c.Changes = append(c.Changes, o.scenario(was, is)...)
		}
	}
	if len(c.Changes) == 0 {
		return nil, errors.New("the two reports have no scenario in common")
	}
	return c, nil
}

// scenario compares what a scenario is run for: the throughput of a closed run, the
// latency of an open one, and the tail of both.
func (o CompareOptions) scenario(was, is *ScenarioResult) []Change {
	of := func(s *ScenarioResult, figure func(*Round) float64) []float64 {
		values := make([]float64, len(s.Rounds))
		for i := range s.Rounds {
			values[i] = figure(&s.Rounds[i])
		}
		return values
	}
	figure := func(name string, get func(*Round) float64, more bool) Change {
		return o.change(was.Name, name, of(was, get), of(is, get), more)
	}
	first := figure("items/s", func(r *Round) float64 { return r.ItemsPerSecond }, true)
	if was.Scenario.Load > 0 {
		first = figure("p50 µs", func(r *Round) float64 { return r.P50 }, false)
	}
	return []Change{first, figure("p99 µs", func(r *Round) float64 { return r.P99 }, false)}
}

// change compares the rounds of one figure; more says whether more of it is better.
func (o CompareOptions) change(name, figure string, was, is []float64, more bool) Change {
	c := Change{Name: name, Figure: figure, Old: median(was), New: median(is), P: 1, Verdict: Same}
	test, err := stats.MannWhitneyUTest(was, is, stats.LocationDiffers)
	if err != nil {
		return c // nothing to compare, or all alike
	}
	c.P = test.P
	grown := c.ratio() - 1
	switch {
	case max(grown, -grown) < o.Threshold:
	case leastP(len(was), len(is)) >= o.Alpha:
		c.Verdict = TooFew
	case c.P >= o.Alpha:
	case (grown > 0) == more:
		c.Verdict = Better
	default:
		c.Verdict = Regression
	}
	return c
}

// leastP is the p-value of n and m rounds of which every one of one side lies above all of
// the other: two of the ways to choose n of n+m. No rounds give a smaller one.
func leastP(n, m int) float64 {
	p := 2.0
	for i := 1; i <= n; i++ {
		p *= float64(i) / float64(m+i)
	}
	return min(p, 1)
}

func differences(a, b *Report) (list []string) {
	for _, d := range []struct{ what, a, b string }{
		{"CPU", a.Environment.CPU, b.Environment.CPU},
		{"cores", fmt.Sprint(a.Environment.Cores), fmt.Sprint(b.Environment.Cores)},
		{"kernel", a.Environment.Kernel, b.Environment.Kernel},
		{"Go", a.Environment.Go, b.Environment.Go},
		{"token", a.Environment.Token, b.Environment.Token},
		{"HSM latency", a.Settings.HSMLatency, b.Settings.HSMLatency},
		{"window", fmt.Sprint(a.Settings.WindowSeconds), fmt.Sprint(b.Settings.WindowSeconds)},
	} {
		if d.a != d.b {
			list = append(list, fmt.Sprintf("%s: %s, then %s", d.what, d.a, d.b))
		}
	}
	return list
}

// Regressed reports whether any figure has become worse.
func (c *Comparison) Regressed() bool {
	for i := range c.Changes {
		if c.Changes[i].Verdict == Regression {
			return true
		}
	}
	return false
}

// Print prints the comparison, and what else differs.
func (c *Comparison) Print(w io.Writer) error {
	t := newTable(table.Row{"name", "figure", "old", "new", "change", "p", ""})
	for i := range c.Changes {
		d := &c.Changes[i]
		show := number
		if d.Figure == "ratio" {
			show = value
		}
		t.AppendRow(table.Row{
			d.Name, d.Figure, show(d.Old), show(d.New), fmt.Sprintf("%+.1f%%", (d.ratio()-1)*100),
			fmt.Sprintf("%.3f", d.P), d.Verdict,
		})
	}
	if _, err := fmt.Fprintln(w, t.Render()); err != nil {
		return err
	}
	for _, d := range c.Differences {
		if _, err := fmt.Fprintln(w, "not alike:", d); err != nil {
			return err
		}
	}
	return nil
}
