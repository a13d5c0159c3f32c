package bench

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNamesAreUnique(t *testing.T) {
	names := map[string]Scenario{}
	for _, g := range Full() {
		if len(g.Scenarios) == 0 {
			t.Errorf("the group %s is empty", g.Name)
		}
		for _, s := range g.Scenarios {
			if other, taken := names[s.Name()]; taken {
				t.Errorf("%s names %+v and %+v", s.Name(), s, other)
			}
			names[s.Name()] = s
		}
	}
}

func TestEveryScenarioCanBePrepared(t *testing.T) {
	for _, g := range Full() {
		for _, s := range g.Scenarios {
			items := make([]item, setItems)
			if list, err := calls(s, items); err != nil || len(list) == 0 {
				t.Errorf("%s: %d calls, %v", s.Name(), len(list), err)
			}
		}
	}
}

func TestScenariosThatCannotBePrepared(t *testing.T) {
	for name, s := range map[string]Scenario{
		"no batch":           {Operation: Unwrap},
		"too large a batch":  {Operation: Unwrap, Batch: 65},
		"no operation":       {Batch: 1},
		"client's batches":   {Operation: Unwrap, Batch: 2, Via: Merged},
		"lean batches":       {Operation: Unwrap, Batch: 2, Via: Lean},
		"echo of signatures": {Operation: Sign, Algorithm: P256, Batch: 1, Server: echoServer},
	} {
		if _, err := calls(s, make([]item, 64)); err == nil {
			t.Errorf("%s was prepared", name)
		}
	}
}

// What a claim is about is in the suite that is to show it.
func TestClaimsAreCovered(t *testing.T) {
	covered := func(groups []Group, s *Scenario) bool {
		return s == nil || slices.ContainsFunc(groups, func(g Group) bool { return slices.Contains(g.Scenarios, *s) })
	}
	quick := 0
	for _, c := range Claims() {
		bounds := 0
		for _, is := range []bool{c.AtLeast != 0, c.AtMost != 0, c.Shown} {
			if is {
				bounds++
			}
		}
		if bounds != 1 {
			t.Errorf("%s has not exactly one bound, or is not only shown", c.Name)
		}
		if !covered(Full(), &c.Of) || !covered(Full(), c.Over) {
			t.Errorf("%s is about a scenario that the full suite does not run", c.Name)
		}
		if covered(Quick(), &c.Of) && covered(Quick(), c.Over) {
			quick++
		}
		if c.Over != nil && c.Of.Name() == c.Over.Name() {
			t.Errorf("%s compares a scenario with itself", c.Name)
		}
	}
	if want := 16; quick != want {
		t.Errorf("the quick suite shows %d claims, want %d", quick, want)
	}
}

// Single items leave half of the processors to the server, and never none to the load.
func TestProcessorsOfTheLoad(t *testing.T) {
	for _, test := range []struct{ batch, all, want int }{{1, 1, 1}, {1, 2, 1}, {1, 3, 1}, {1, 16, 8}, {16, 2, 2}, {1024, 16, 16}} {
		if got := (Scenario{Batch: test.batch}).processors(test.all); got != test.want {
			t.Errorf("batches of %d on %d processors: %d, want %d", test.batch, test.all, got, test.want)
		}
	}
}

// A load is a share of something that was run before.
func TestLoadsHaveACapacity(t *testing.T) {
	var before []Scenario
	loaded := 0
	for _, g := range Full() {
		for _, s := range g.Scenarios {
			if s.Load > 0 {
				loaded++
				if !slices.Contains(before, s.capacity()) {
					t.Errorf("%s needs %s before it", s.Name(), s.capacity().Name())
				}
			}
		}
		before = append(before, g.Scenarios...)
	}
	if loaded == 0 {
		t.Error("there is no open run")
	}
}

func TestSelect(t *testing.T) {
	groups, err := Select(Full(), `load=50%$`)
	if err != nil {
		t.Fatal(err)
	}
	if len(groups) != 2 || !slices.Equal(groups[0].Scenarios, []Scenario{unary}) || len(groups[1].Scenarios) != 2 {
		t.Errorf("selected %+v, want the two loads and what they are a share of", groups)
	}
	if _, err := Select(Full(), "no such scenario"); err == nil {
		t.Error("nothing was selected without an error")
	}
	if _, err := Select(Full(), "("); err == nil {
		t.Error("a malformed expression was taken")
	}
}

func TestLatencyOfAllScenarios(t *testing.T) {
	o, err := Options{
		Groups: []Group{{Name: "a", Scenarios: []Scenario{unary, unaryEcho, unaryOneCall, on(Server{HSMLatency: time.Millisecond}, unary)}}},
		KMSD:   "kmsd", Echo: []string{"echo"}, HSMLatency: time.Millisecond,
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, s := range o.scenarios() {
		names = append(names, s.Name())
	}
	want := "unwrap/derived/batch=1/hsm=1ms/callers=64 unwrap/echo/batch=1/callers=64 " +
		"unwrap/derived/batch=1/hsm=5ms/sessions=4/one-call-each/callers=64"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("scenarios are\n%s\nwant\n%s", got, want)
	}
}

// Rounds that are cut take as long as those that are not, and longer ones longer.
func TestRoundsInParts(t *testing.T) {
	o, err := Options{
		Groups: []Group{
			{Name: "whole", Scenarios: []Scenario{unary}},
			{Name: "halves", Scenarios: []Scenario{unary}, Parts: 2},
			{Name: "own", Scenarios: []Scenario{unary}, Rounds: 3, Window: time.Second, Parts: 4},
			{Name: "longer", Scenarios: []Scenario{unary}, Longer: 2},
		},
		KMSD: "kmsd", Echo: []string{"echo"}, Rounds: 5, Window: 800 * time.Millisecond, WarmUp: 200 * time.Millisecond,
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Group{
		{Rounds: 5, Window: 800 * time.Millisecond, warmUp: 200 * time.Millisecond},
		{Rounds: 10, Window: 400 * time.Millisecond, warmUp: 100 * time.Millisecond},
		{Rounds: 12, Window: 250 * time.Millisecond, warmUp: 50 * time.Millisecond},
		{Rounds: 5, Window: 1600 * time.Millisecond, warmUp: 400 * time.Millisecond},
	} {
		if g := o.Groups[i]; g.Rounds != want.Rounds || g.Window != want.Window || g.warmUp != want.warmUp {
			t.Errorf("%s: %d rounds of %v after %v, want %d of %v after %v", g.Name, g.Rounds, g.Window, g.warmUp, want.Rounds, want.Window, want.warmUp)
		}
	}
	if o.runs() != 5+10+12+5 {
		t.Errorf("%d runs", o.runs())
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	good := Options{Groups: Quick(), KMSD: "kmsd", Echo: []string{"echo"}}
	for name, spoil := range map[string]func(*Options){
		"nothing to run": func(o *Options) { o.Groups = nil },
		"no kmsd":        func(o *Options) { o.KMSD = "" },
		"no echo":        func(o *Options) { o.Echo = nil },
		"rounds":         func(o *Options) { o.Rounds = -1 },
		"window":         func(o *Options) { o.Window = -1 },
	} {
		o := good
		spoil(&o)
		if _, err := o.withDefaults(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
