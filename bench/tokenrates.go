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

// tokenRates runs `kmsd hsm bench --json` on a copy of a site, each figure for so long,
// and returns what it prints.
func (d *sites) tokenRates(ctx context.Context, latency, window time.Duration) (json.RawMessage, error) {
	origin := d.origins[slices.Min(slices.Collect(maps.Keys(d.origins)))] // there is one: what is run needs it
	own, err := origin.copyTo(filepath.Join(d.work, "token-rates"))
	if err != nil {
		return nil, err
	}
	config, env, err := own.writeConfig(ctx, Server{HSMLatency: latency})
	if err != nil {
		return nil, err
	}
	//nolint:gosec // the program that the operator has named
	cmd := exec.CommandContext(ctx, d.kmsd, "hsm", "bench", "--json", "--duration", window.String(), "--config", config)
	cmd.Env = slices.Concat(os.Environ(), env)
	text, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("%w: kmsd hsm bench: %w", ErrProcess, err)
	}
	if !json.Valid(text) {
		return nil, fmt.Errorf("%w: kmsd hsm bench printed no JSON", ErrProcess)
	}
	return text, nil
}
