package bench

import (
	"bytes"
	"strings"
	"testing"
)

func reportOf(results ...ScenarioResult) *Report {
	return &Report{Format: reportFormat, Scenarios: results}
}

func find(t *testing.T, c *Comparison, name, figure string) Change {
	t.Helper()
	for _, change := range c.Changes {
		if change.Name == name && change.Figure == figure {
			return change
		}
	}
	t.Fatalf("no %s of %s was compared", figure, name)
	return Change{}
}

func TestCompare(t *testing.T) {
	base := reportOf(resultOf(unary, 100, 102, 98, 101, 99))
	for _, tt := range []struct {
		name    string
		rounds  []float64
		want    Verdict
		p       float64 // exact, of 5 against 5; 0: not looked at
		latency Verdict
	}{
		{"slower in every round", []float64{80, 82, 78, 81, 79}, Regression, 2.0 / 252, Regression},
		{"faster in every round", []float64{120, 122, 118, 121, 119}, Better, 2.0 / 252, Better},
		{"significant but small", []float64{97, 97.1, 97.2, 97.3, 97.4}, Same, 2.0 / 252, Same},
		{"large but scattered", []float64{50, 150, 40, 160, 80}, Same, 0, Same},
		{"the same", []float64{100, 102, 98, 101, 99}, Same, 0, Same},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Compare(base, reportOf(resultOf(unary, tt.rounds...)), CompareOptions{})
			if err != nil {
				t.Fatal(err)
			}
			change := find(t, c, unary.Name(), "items/s")
			if change.Verdict != tt.want {
				t.Errorf("verdict %s with p %v, want %s", change.Verdict, change.P, tt.want)
			}
			if tt.p != 0 && (change.P < tt.p-1e-9 || change.P > tt.p+1e-9) {
				t.Errorf("p is %v, want %v", change.P, tt.p)
			}
			if got := find(t, c, unary.Name(), "p99 µs").Verdict; got != tt.latency {
				t.Errorf("verdict of the latency is %s, want %s", got, tt.latency)
			}
			if c.Regressed() != (tt.want == Regression) {
				t.Errorf("regressed: %v", c.Regressed())
			}
		})
	}
}

func TestCompareLatencyOfOpenRuns(t *testing.T) {
	loaded := with(unary, func(s *Scenario) { s.Load = 0.5 })
	slow, fast := resultOf(loaded, 10, 11, 12, 13, 14), resultOf(loaded, 20, 21, 22, 23, 24)
	c, err := Compare(reportOf(fast), reportOf(slow), CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if v := find(t, c, loaded.Name(), "p50 µs").Verdict; v != Regression {
		t.Errorf("a median latency twice as long is %s", v)
	}
}

func TestCompareClaims(t *testing.T) {
	older, newer := testReport(), testReport()
	older.judge(Claims(), 0)
	newer.judge(Claims(), 0)
	older.Claims[0].Rounds = []float64{20, 21, 22, 23, 24}
	newer.Claims[0].Rounds = []float64{10, 11, 12, 13, 14}
	c, err := Compare(older, newer, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if v := find(t, c, older.Claims[0].Name, "ratio").Verdict; v != Regression {
		t.Errorf("half the ratio is %s", v)
	}
}

// However far apart they lie, three rounds against three are not told from chance at a level
// of 0.05, and that is said instead of calling them alike.
func TestCompareTooFewRounds(t *testing.T) {
	for _, tt := range []struct {
		was, is []float64
		alpha   float64
		want    Verdict
	}{
		{[]float64{100}, []float64{50}, 0, TooFew},
		{[]float64{100}, []float64{101}, 0, Same},
		{[]float64{100, 101, 102}, []float64{50, 51, 52}, 0, TooFew},
		{[]float64{100, 101, 102}, []float64{50, 51, 52}, 0.11, Regression},
		{[]float64{100, 101, 102}, []float64{50, 51, 52, 53, 54}, 0, Regression},
		{[]float64{100, 101, 102, 103}, []float64{50, 51, 52, 53}, 0, Regression},
		{[]float64{100, 101, 102, 103}, []float64{50, 51, 120, 53}, 0, Same},
	} {
		c, err := Compare(reportOf(resultOf(unary, tt.was...)), reportOf(resultOf(unary, tt.is...)), CompareOptions{Alpha: tt.alpha})
		if err != nil {
			t.Fatal(err)
		}
		if got := find(t, c, unary.Name(), "items/s"); got.Verdict != tt.want {
			t.Errorf("%v, then %v: %s with p %v, want %s", tt.was, tt.is, got.Verdict, got.P, tt.want)
		}
		if c.Regressed() != (tt.want == Regression) {
			t.Errorf("%v, then %v: regressed: %v", tt.was, tt.is, c.Regressed())
		}
	}
}

func TestCompareWhatHasNothingInCommon(t *testing.T) {
	if _, err := Compare(reportOf(resultOf(unary, 1)), reportOf(resultOf(unaryEcho, 1)), CompareOptions{}); err == nil {
		t.Error("no error")
	}
}

func TestPrintComparison(t *testing.T) {
	older, newer := reportOf(resultOf(unary, 100, 102, 98, 101, 99)), reportOf(resultOf(unary, 50, 51, 52, 53, 54))
	newer.Environment.Cores = 64
	c, err := Compare(older, newer, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{unary.Name(), "-48.0%", "0.008", "REGRESSION", "not alike: cores: 0, then 64"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not printed:\n%s", want, b.String())
		}
	}
}
