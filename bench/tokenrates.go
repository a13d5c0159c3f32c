package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// tokenBench measures a token without a server, on a copy of a site.
type tokenBench struct {
	kmsd   string
	config string // path
	env    []string
}

// tokenAlone makes a copy of a site for a tokenBench.
func (d *sites) tokenAlone(ctx context.Context, server Server) (*tokenBench, error) {
	origin := d.origins[server.Versions]
	if origin == nil { // what is run is about other numbers of versions
		origin = d.origins[slices.Min(slices.Collect(maps.Keys(d.origins)))]
	}
	d.copies++
	own, err := origin.copyTo(filepath.Join(d.work, fmt.Sprintf("token-%d", d.copies)))
	if err != nil {
		return nil, err
	}
	config, env, err := own.writeConfig(ctx, server)
	return &tokenBench{kmsd: d.kmsd, config: config, env: env}, err
}

// run runs `kmsd hsm bench --json`, each figure for so long, and returns what it prints and
// how much CPU time it took.
func (b *tokenBench) run(ctx context.Context, window time.Duration, args ...string) (json.RawMessage, time.Duration, error) {
	args = append([]string{"hsm", "bench", "--json", "--duration", window.String(), "--config", b.config}, args...)
	cmd := exec.CommandContext(ctx, b.kmsd, args...) //nolint:gosec // the program that the operator has named
	cmd.Env = slices.Concat(os.Environ(), b.env)
	text, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, 0, fmt.Errorf("%w: kmsd hsm bench: %w", ErrProcess, err)
	}
	if !json.Valid(text) {
		return nil, 0, fmt.Errorf("%w: kmsd hsm bench printed no JSON", ErrProcess)
	}
	return text, cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

// tokenRates measures everything that a token does.
func (d *sites) tokenRates(ctx context.Context, latency, window time.Duration) (json.RawMessage, error) {
	b, err := d.tokenAlone(ctx, Server{HSMLatency: latency})
	if err != nil {
		return nil, err
	}
	text, _, err := b.run(ctx, window)
	return text, err
}

// round measures what the scenario names, with as many callers as it says, or one for each
// session: as many calls as kmsd can have under way.
func (b *tokenBench) round(ctx context.Context, s Scenario, window time.Duration) (Round, error) {
	usedBefore, totalBefore := busyTime()
	text, cpu, err := b.run(ctx, window, "--operation", s.tokenOperation(), "--callers", fmt.Sprint(s.Callers))
	if err != nil {
		return Round{}, err
	}
	used, total := busyTime()
	var printed struct{ Figures []tokenFigure }
	if err := json.Unmarshal(text, &printed); err != nil || len(printed.Figures) != 1 {
		return Round{}, fmt.Errorf("%w: kmsd hsm bench printed %d figures, want 1 (%w)", ErrProcess, len(printed.Figures), err)
	}
	f := printed.Figures[0]
	r := Round{
		ItemsPerSecond: f.ItemsPerSecond, RequestsPerSecond: f.CallsPerSecond,
		P50: float64(f.P50.Nanoseconds()) / 1e3, P99: float64(f.P99.Nanoseconds()) / 1e3,
	}
	if total > totalBefore {
		r.OthersCPU = max(0, float64(used-usedBefore-cpu)/float64(total-totalBefore))
	}
	return r, nil
}

// tokenOperation is what kmsd hsm bench calls the scenario's operation.
func (s Scenario) tokenOperation() string { return string(s.Operation) + "_" + string(s.Algorithm) }
