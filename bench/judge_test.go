package bench

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// resultOf is a result with so many items a second in its rounds.
func resultOf(s Scenario, perSecond ...float64) ScenarioResult {
	result := ScenarioResult{Name: s.Name(), Group: "test", Scenario: s}
	for _, v := range perSecond {
		result.Rounds = append(result.Rounds, Round{ItemsPerSecond: v, RequestsPerSecond: v / float64(s.Batch), P50: 1e6 / v, P99: 2e6 / v})
	}
	result.Median = medianRound(result.Rounds)
	return result
}

func testReport() *Report {
	r := &Report{Format: reportFormat, Suite: "test", Settings: Settings{Rounds: 3}}
	r.Scenarios = []ScenarioResult{
		resultOf(derivedBatch, 1000, 3000, 2000),
		resultOf(echoBatch, 2000, 4000, 8000),
		resultOf(strictBatch, 100, 100, 100),
		resultOf(unary, 10, 11, 12),
	}
	return r
}

func TestRatiosAreMediansOfRounds(t *testing.T) {
	r := testReport()
	calls := 1.0 / 1024
	for i := range r.Scenarios[0].Rounds {
		r.Scenarios[0].Rounds[i].TokenCalls = &calls
	}
	r.judge(Claims(), 0)
	want := map[string]float64{
		"unwrap_batch1024_vs_strict": 20,  // of 10, 30 and 20
		"unwrap_batch1024_vs_echo":   0.5, // of 0.5, 0.75 and 0.25, though the medians have 0.5 too
		"token_calls_per_key":        1.0 / 1024,
	}
	if diff := cmp.Diff(want, r.Ratios); diff != "" {
		t.Errorf("ratios (-want +got):\n%s", diff)
	}
	for _, c := range r.Claims {
		if !c.Pass {
			t.Errorf("%s does not pass with %v", c.Name, c.Value)
		}
	}
	if !r.Passed() {
		t.Error("the report did not pass")
	}
}

func TestClaimsFail(t *testing.T) {
	claim := Claim{Name: "c", Of: derivedBatch, Over: &echoBatch, AtLeast: 0.51}
	r := testReport()
	r.judge([]Claim{claim}, 0)
	if r.Claims[0].Pass || r.Passed() {
		t.Error("0.5 passed for at least 0.51")
	}
	r = testReport()
	claim.AtLeast, claim.AtMost = 0, 0.49
	r.judge([]Claim{claim}, 0)
	if r.Claims[0].Pass {
		t.Error("0.5 passed for at most 0.49")
	}
	r = testReport()
	claim.AtMost, claim.Shown = 0, true
	r.judge([]Claim{claim}, 0)
	if c := r.Claims[0]; !r.Passed() || c.verdict() != "shown" || c.bound() != "-" || r.Ratios["c"] != 0.5 {
		t.Errorf("a figure that is only shown: %+v", c)
	}
	r = testReport()
	claim.AtMost, claim.Shown = 0.51, false
	r.Scenarios[1].FirstFail = "an error"
	r.judge([]Claim{claim}, 0)
	if r.Claims[0].Pass || r.Passed() {
		t.Error("a claim passed on requests that failed")
	}
}

func TestClaimsThatWereNotMeasured(t *testing.T) {
	r := testReport()
	r.judge(Claims(), 0)
	for _, name := range []string{"unwrap_unary_vs_echo", "token_calls_per_key", "memory_64_batches_of_4096_mib"} {
		if _, ok := r.Ratios[name]; ok {
			t.Errorf("%s has a value, without a measurement", name)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
	}
}

func TestReportSurvivesItsFile(t *testing.T) {
	r := testReport()
	r.judge(Claims(), 0)
	path := filepath.Join(t.TempDir(), "out", "latest.json")
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	back, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, back); diff != "" {
		t.Errorf("the report changed (-written +read):\n%s", diff)
	}
	r.Format++
	if err := r.Write(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil {
		t.Error("a report of another format was read")
	}
}

func TestPrint(t *testing.T) {
	r := testReport()
	r.Scenarios[3].FirstFail = "the first error"
	if busy := r.busy(); busy != "" {
		t.Errorf("nothing disturbed, and it says %q", busy)
	}
	r.Scenarios[0].Rounds[1].OthersCPU = 0.25
	r.judge(Claims(), 0)
	var b bytes.Buffer
	if err := r.PrintScenarios(&b); err != nil {
		t.Fatal(err)
	}
	if err := r.PrintClaims(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"unwrap/derived/batch=1024/callers=4", "2,000", "the first error",
		"unwrap_batch1024_vs_echo", "at least 0.42", "0.25 .. 0.75", "2,000 : 4,000", "pass, aim reached",
		"1 of 12 runs lost more than 10% of it",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not printed:\n%s", want, b.String())
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.4567: "0.457", 12.345: "12.3", 999.4: "999", 1234: "1,230", 987654: "988,000", 1234567: "1,230,000",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "-", 0.6: "1 µs", 999: "999 µs", 1500: "1.5 ms", math.Pow(10, 6): "1 s"} {
		if got := microseconds(v); got != want {
			t.Errorf("%v µs is written %s, want %s", v, got, want)
		}
	}
}
