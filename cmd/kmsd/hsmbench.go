package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/hsm/hsmbench"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
)

const (
	defaultBenchDuration = 2 * time.Second
	maxBenchDuration     = time.Minute
	maxBenchCallers      = 1024
)

func hsmBenchCommand() *cobra.Command {
	var (
		flags    configFlags
		duration time.Duration
		sessions int
		only     []string
		callers  []int
	)
	command := &cobra.Command{
		Use:   "bench --config FILE",
		Short: "Measure what the token does in a second",
		Long: "Measures the token that a configuration names: blocks for key derivation, AES-GCM, signatures, HMAC, random\n" +
			"bytes, key generation, with one caller, two, and one for each session. It uses scratch keys labelled\n" +
			"keyholt-bench, which it generates in the token and destroys; it touches no other object. It works beside a\n" +
			"server, with which it shares the token's speed and number of sessions. With the default duration it takes\n" +
			"about a minute and a half.",
		Args:   noArguments,
		PreRun: tuneAllocator,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if duration <= 0 || duration > maxBenchDuration {
				return usageError("--duration: want more than 0s and at most %v", maxBenchDuration)
			}
			if sessions < 0 {
				return usageError("--sessions: want a positive number")
			}
			if err := checkBenched(only, callers); err != nil {
				return err
			}
			c, err := flags.load(cmd)
			if err != nil {
				return err
			}
			if sessions > 0 {
				c.HSM.Sessions = sessions
			}
			return benchToken(cmd.Context(), cmd.OutOrStdout(), c, flags.json, hsmbench.Config{
				Duration: duration, Callers: callers, Operations: only,
			})
		},
	}
	flags.addTo(command)
	command.Flags().DurationVar(&duration, "duration", defaultBenchDuration, "how long to measure each figure, at most 1m")
	command.Flags().IntVar(&sessions, "sessions", 0, "how many sessions to open (default: as hsm.sessions in the configuration)")
	command.Flags().StringSliceVar(&only, "operation", nil, "measure only these `operations`, by the names that are printed")
	command.Flags().IntSliceVar(&callers, "callers", nil,
		"how many `callers` at the same time; 0: one for each session (default: 1, 2 and 0)")
	return command
}

func checkBenched(only []string, callers []int) error {
	for _, name := range only {
		if !slices.Contains(hsmbench.Operations(), name) {
			return usageError("--operation: %q is none of %s", name, strings.Join(hsmbench.Operations(), ", "))
		}
	}
	if len(callers) > 0 && (slices.Min(callers) < 0 || slices.Max(callers) > maxBenchCallers) {
		return usageError("--callers: want 0 to %d", maxBenchCallers)
	}
	return nil
}

// benchToken measures until it is done or a signal tells it to stop; then, too, the scratch
// keys are destroyed.
func benchToken(ctx context.Context, w io.Writer, c *config, asJSON bool, measure hsmbench.Config) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	ctx, gone := signal.NotifyContext(ctx, syscall.SIGPIPE, syscall.SIGHUP) // the reader, the terminal
	defer gone()
	err := withToken(ctx, c, func(token *pkcs11hsm.Token, log *slog.Logger) error {
		logToken(ctx, log, token)
		sessions := token.Info().Sessions
		if len(measure.Callers) == 0 {
			measure.Callers = hsmbench.DefaultCallers(sessions)
		}
		for i, callers := range measure.Callers {
			if callers == 0 {
				measure.Callers[i] = sessions
			}
		}
		if asJSON {
			report, err := hsmbench.Run(ctx, token, measure)
			if err != nil {
				return err
			}
			return printJSON(w, newBenchOutput(report, measure.Duration))
		}
		table := &figureTable{w: w}
		table.header()
		measure.Measured = table.row
		report, err := hsmbench.Run(ctx, token, measure)
		if err != nil {
			return err
		}
		table.leftovers(report.Leftovers)
		return table.err
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("interrupted: %w", err)
	}
	return err
}

// benchOutput is the report as JSON, with what the figures depend on.
type benchOutput struct {
	Kmsd     string        `json:"kmsd"` // version
	Go       string        `json:"go"`
	OS       string        `json:"os"`    // as GOOS/GOARCH
	Cores    int           `json:"cores"` // GOMAXPROCS
	Duration time.Duration `json:"duration_ns"`
	*hsmbench.Report
}

func newBenchOutput(report *hsmbench.Report, duration time.Duration) benchOutput {
	return benchOutput{
		Kmsd: version(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.GOMAXPROCS(0),
		Duration: duration, Report: report,
	}
}

// figureTable prints figures as they come; the first error of writing stays in err.
type figureTable struct {
	w   io.Writer
	err error
}

func (t *figureTable) print(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *figureTable) header() {
	t.print("%-15s%8s%8s%9s%13s%13s%11s%11s\n",
		"operation", "bytes", "items", "callers", "calls/s", "items/s", "p50 us", "p99 us")
}

func (t *figureTable) row(f hsmbench.Figure) {
	size := "-"
	if f.Bytes > 0 {
		size = strconv.Itoa(f.Bytes)
	}
	t.print("%-15s%8s%8d%9d%13.0f%13.0f%11.1f%11.1f\n", f.Operation, size, f.Items, f.Callers,
		f.CallsPerSecond, f.ItemsPerSecond, microseconds(f.P50), microseconds(f.P99))
}

func (t *figureTable) leftovers(found []hsmbench.Leftover) {
	if len(found) == 0 {
		return
	}
	t.print("\nThe token has scratch keys of another measurement. If none is under way, destroy them, such as with\n" +
		"pkcs11-tool --login --delete-object --type secrkey --id UID (of a pair: privkey, then pubkey):\n")
	for _, leftover := range found {
		t.print("  %s  %s\n", leftover.UID, leftover.Label)
	}
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
