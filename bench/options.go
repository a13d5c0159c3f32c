package bench

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"
)

// Options say what to run, and how. Zero values are the defaults of their lines.
type Options struct {
	Suite  string  // its name, for the report
	Groups []Group // what to run
	// Rounds of each group that has no number of its own; default 7.
	Rounds int
	// Window is how long each run is measured; default 800 ms.
	Window time.Duration
	// WarmUp is how long each run goes on before it is measured; default 200 ms.
	WarmUp time.Duration
	// Connections is how many connections the callers of a server share; default 4.
	Connections int
	// HSMLatency delays the token operations of every kmsd that no scenario gives a
	// latency of its own.
	HSMLatency time.Duration
	KMSD       string   // the program
	Echo       []string // the command of the echo server; its options are appended
	// TempDir is where servers keep their data while they run; default: the system's.
	TempDir string
	// TokenRates also measures the token by itself, by `kmsd hsm bench`.
	TokenRates bool
	// Progress is told what happens; nil: nobody is.
	Progress func(Event)
}

// Event is something that happened in a run.
type Event struct {
	Text        string
	Done, Total int // runs of scenarios
}

func (o Options) withDefaults() (Options, error) {
	if o.Rounds < 0 || o.Window < 0 || o.WarmUp < 0 || o.Connections < 0 || o.HSMLatency < 0 {
		return o, errors.New("bench: a number of rounds or a time is negative")
	}
	if o.Rounds == 0 {
		o.Rounds = 7
	}
	if o.Window == 0 {
		o.Window = 800 * time.Millisecond
	}
	if o.WarmUp == 0 {
		o.WarmUp = 200 * time.Millisecond
	}
	if o.Connections == 0 {
		o.Connections = 4
	}
	if o.Progress == nil {
		o.Progress = func(Event) {}
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	if o.KMSD == "" || len(o.Echo) == 0 {
		return o, errors.New("bench: kmsd and the echo server are required")
	}
	groups := make([]Group, 0, len(o.Groups))
	for _, g := range o.Groups {
		g.Scenarios = slices.Clone(g.Scenarios)
		for i := range g.Scenarios {
			g.Scenarios[i] = delayed(g.Scenarios[i], o.HSMLatency)
		}
		g.Scenarios = unique(g.Scenarios)
		if g.Rounds == 0 {
			g.Rounds = o.Rounds
		}
		if g.Window == 0 {
			g.Window = o.Window
		}
		if g.Parts > 1 {
			g.Rounds *= g.Parts
			g.Window /= time.Duration(g.Parts)
		}
		longer := time.Duration(max(g.Longer, 1))
		g.Window *= longer
		g.warmUp = longer * o.WarmUp / time.Duration(max(g.Parts, 1))
		groups = append(groups, g)
	}
	o.Groups = groups
	if len(o.scenarios()) == 0 {
		return o, errors.New("bench: no scenario to run")
	}
	return o, nil
}

// delayed is a scenario with the latency that all have.
func delayed(s Scenario, latency time.Duration) Scenario {
	if !s.Server.Echo && s.Server.HSMLatency == 0 {
		s.Server.HSMLatency = latency
	}
	return s
}

func unique(list []Scenario) (kept []Scenario) {
	for _, s := range list {
		if !slices.Contains(kept, s) {
			kept = append(kept, s)
		}
	}
	return kept
}

func (o *Options) scenarios() (list []Scenario) {
	for _, g := range o.Groups {
		list = append(list, g.Scenarios...)
	}
	return list
}

// runs is how many runs of scenarios there are.
func (o *Options) runs() (n int) {
	for _, g := range o.Groups {
		n += g.Rounds * len(g.Scenarios)
	}
	return n
}

// Select keeps the scenarios whose name matches, and what their loads are shares of.
func Select(groups []Group, pattern string) ([]Group, error) {
	matches, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("scenario pattern: %w", err)
	}
	var kept []Group
	var missing []Scenario
	for _, g := range groups {
		g.Scenarios = slices.DeleteFunc(slices.Clone(g.Scenarios), func(s Scenario) bool {
			return !matches.MatchString(s.Name())
		})
		for _, s := range g.Scenarios {
			if s.Load > 0 && !matches.MatchString(s.capacity().Name()) {
				missing = append(missing, s.capacity())
			}
		}
		if len(g.Scenarios) > 0 {
			kept = append(kept, g)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("no scenario matches %q", pattern)
	}
	if len(missing) > 0 {
		kept = append([]Group{{Name: "capacity", Scenarios: unique(missing)}}, kept...)
	}
	return kept, nil
}
