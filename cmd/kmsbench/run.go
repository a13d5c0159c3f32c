package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/bench"
)

// gcPercent makes this process collect garbage less often than by default: it shares the
// machine with the server, and what it takes the server does not get.
const gcPercent = 400

// resultFile is the name of a report in the directory of results.
const resultFile = "latest.json"

type runFlags struct {
	quick       bool
	scenario    string
	rounds      int
	window      time.Duration
	warmUp      time.Duration
	connections int
	latency     time.Duration
	kmsd        string
	out         string
	tempDir     string
	noToken     bool
}

func runCommand() *cobra.Command {
	var f runFlags
	command := &cobra.Command{
		Use:   "run",
		Short: "Run scenarios and write what they reached",
		Long: "Runs the full suite, or with --quick only what the claims need, and prints what every scenario reached and which\n" +
			"claims hold. Figures, plots and a page of HTML go to the directory of results.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	flags := command.Flags()
	flags.BoolVar(&f.quick, "quick", false, "only what the claims need")
	flags.StringVar(&f.scenario, "scenario", "", "only scenarios whose name matches this regular `expression`; see kmsbench list")
	flags.IntVar(&f.rounds, "rounds", 0, "rounds of each group (default: 7, or fewer where the group says)")
	flags.DurationVar(&f.window, "window", 0, "how long each run is measured, where the group does not say (default 800ms)")
	flags.DurationVar(&f.warmUp, "warm-up", 0, "how long each run goes on before that (default 200ms)")
	flags.IntVar(&f.connections, "connections", 0, "how many connections the callers of a server share (default 4)")
	flags.DurationVar(&f.latency, "hsm-latency", 0, "delay each operation of the token by this, as a network HSM would")
	flags.StringVar(&f.kmsd, "kmsd", "", "the kmsd `program` (default: beside this one)")
	flags.StringVar(&f.out, "out", filepath.Join("bench", "out"), "`directory` of results")
	flags.StringVar(&f.tempDir, "temp-dir", "", "`directory` for the servers' data while they run (default: the system's)")
	flags.BoolVar(&f.noToken, "no-token-rates", false, "do not measure the token by itself")
	return command
}

func (f *runFlags) run(cmd *cobra.Command) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	options, err := f.options()
	if err != nil {
		return err
	}
	progress := newProgress(cmd.ErrOrStderr())
	options.Progress = progress.show
	report, err := bench.Run(cmd.Context(), options)
	progress.end()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if err := errors.Join(report.PrintScenarios(out), report.PrintClaims(out)); err != nil {
		return err
	}
	path := filepath.Join(f.out, resultFile)
	if err := report.Write(path); err != nil {
		return err
	}
	if err := publish(report, f.out); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "took %.0f s; figures: %s; page: %s\n", report.Seconds, path, filepath.Join(f.out, pageFile))
	if err == nil && !report.Passed() {
		err = errFinding
	}
	return err
}

func (f *runFlags) options() (bench.Options, error) {
	self, err := os.Executable()
	if err != nil {
		return bench.Options{}, err
	}
	if f.kmsd == "" {
		f.kmsd = filepath.Join(filepath.Dir(self), "kmsd")
	}
	if _, err := os.Stat(f.kmsd); err != nil {
		return bench.Options{}, fmt.Errorf("%w; `make build` makes it, or name one with --kmsd", err)
	}
	o := bench.Options{
		Suite: "full", Groups: bench.Full(), Rounds: f.rounds, Window: f.window, WarmUp: f.warmUp,
		Connections: f.connections, HSMLatency: f.latency,
		KMSD: f.kmsd, Echo: []string{self, echoName}, TempDir: f.tempDir, TokenRates: !f.noToken,
	}
	if f.quick {
		o.Suite, o.Groups = "quick", bench.Quick()
	}
	if f.scenario != "" {
		o.Suite += ", selected"
		o.Groups, err = bench.Select(o.Groups, f.scenario)
	}
	if f.rounds > 0 { // what is asked for counts, also where a group has a number of its own
		for i := range o.Groups {
			o.Groups[i].Rounds = 0
		}
	}
	return o, err
}
