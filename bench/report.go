package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// reportFormat is the version of the result file: it changes when a reader of the old
// one would misunderstand the new.
const reportFormat = 1

// Report is everything a run measured, as it stands in the result file.
type Report struct {
	Format      int         `json:"format"`
	Suite       string      `json:"suite"`
	Started     time.Time   `json:"started"`
	Seconds     float64     `json:"seconds"`
	Environment Environment `json:"environment"`
	Settings    Settings    `json:"settings"`
	// Ratios are the values of the claims by name; Claims has their rounds.
	Ratios    map[string]float64 `json:"ratios"`
	Claims    []ClaimResult      `json:"claims"`
	Scenarios []ScenarioResult   `json:"scenarios"`
	// Token is what `kmsd hsm bench --json` printed: the token's own rates.
	Token json.RawMessage `json:"token,omitempty"`
}

// Settings are how it was measured.
type Settings struct {
	Rounds        int     `json:"rounds"`
	WindowSeconds float64 `json:"window_seconds"` // of one run
	WarmUpSeconds float64 `json:"warm_up_seconds"`
	HSMLatency    string  `json:"hsm_latency"` // of every scenario that has none of its own
	Connections   int     `json:"connections"` // that callers share
}

// ScenarioResult is one scenario's figures.
type ScenarioResult struct {
	Name      string   `json:"name"`
	Group     string   `json:"group"`
	Scenario  Scenario `json:"scenario"`
	Rounds    []Round  `json:"rounds"`
	Median    Round    `json:"median"` // of each figure by itself
	PeakMiB   float64  `json:"server_peak_mib,omitempty"`
	FirstFail string   `json:"first_error,omitempty"`
}

// Round is what one run of a scenario measured. Latencies are in microseconds.
type Round struct {
	ItemsPerSecond    float64 `json:"items_per_second"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	OfferedPerSecond  float64 `json:"offered_per_second,omitempty"` // of an open run
	P50               float64 `json:"p50_us"`
	P90               float64 `json:"p90_us"`
	P99               float64 `json:"p99_us"`
	P999              float64 `json:"p999_us"`
	Max               float64 `json:"max_us"`
	Errors            float64 `json:"errors"`
	Unserved          float64 `json:"unserved"`
	// CPU time per item, in microseconds; 0 where the system does not tell.
	ServerCPU float64 `json:"server_cpu_us_per_item,omitempty"`
	ClientCPU float64 `json:"client_cpu_us_per_item,omitempty"`
	// OthersCPU is the share of the machine that neither the server nor the load took:
	// other processes, and the kernel's own work.
	OthersCPU float64 `json:"others_cpu_share"`
	// TokenCalls is the token operations per item; absent if the server has no metrics.
	TokenCalls *float64 `json:"token_calls_per_item,omitempty"`
}

// figure returns one quantity of a round.
func (r *Round) figure(f Figure) (value float64, ok bool) {
	switch f {
	case MedianTime:
		return r.P50, true
	case TokenCalls:
		if r.TokenCalls == nil {
			return 0, false
		}
		return *r.TokenCalls, true
	default:
		return r.ItemsPerSecond, true
	}
}

// find returns a scenario's result, nil if it was not run.
func (r *Report) find(name string) *ScenarioResult {
	i := slices.IndexFunc(r.Scenarios, func(s ScenarioResult) bool { return s.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Scenarios[i]
}

// Read reads a result file.
func Read(path string) (*Report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if r.Format != reportFormat {
		return nil, fmt.Errorf("%s: format %d, this program reads %d", path, r.Format, reportFormat)
	}
	return r, nil
}

// Write writes the result file. It appears whole or not at all.
func (r *Report) Write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	unfinished := path + ".new"
	if err := os.WriteFile(unfinished, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(unfinished, path)
}
