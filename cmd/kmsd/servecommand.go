package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var path, acceptRollback string
	command := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the server",
		Long: "Runs the server until SIGTERM or SIGINT; then it finishes what is under way and ends. A second signal ends\n" +
			"it at once. SIGHUP makes it open its audit file anew.\n\n" +
			"docs/configuration.md describes the configuration file.\n\n" +
			"Exit codes:\n" + exitCodeHelp(),
		Args:   noArguments,
		PreRun: tuneAllocator,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return usageError("%s needs --config FILE", cmd.CommandPath())
			}
			c, err := verifiedConfig(path)
			if err != nil {
				return err
			}
			return runUntilSignal(cmd.Context(), c, hooks{acceptRollback: acceptRollback})
		},
	}
	command.Flags().StringVar(&path, "config", "", "configuration `file` (required)")
	acceptRollbackFlag(command, &acceptRollback)
	return command
}

func acceptRollbackFlag(command *cobra.Command, reason *string) {
	command.Flags().StringVar(reason, "accept-rollback", "",
		"start with a store that was put back to an older state, for this `reason`")
}

// runUntilSignal runs the server until the process is told to end. What makes it fail is
// logged.
func runUntilSignal(ctx context.Context, c *config, h hooks) error {
	log, err := newLogger(os.Stderr, c.Log)
	if err != nil {
		return err
	}
	// Noted from the first moment on: until the audit file is open SIGHUP has no effect.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	h.hangups = hangups

	ctx, stop := untilSignal(ctx)
	defer stop()
	err = run(ctx, c, log, h)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		log.InfoContext(ctx, "kmsd was told to end before it was ready")
		return nil
	}
	if err != nil {
		log.ErrorContext(ctx, "kmsd failed", slog.String("error", explain(err)), slog.Int("exit_code", exitCodeOf(err)))
		return loggedError{err}
	}
	log.InfoContext(ctx, "kmsd ended")
	return nil
}

// untilSignal returns a context that ends with the first SIGTERM or SIGINT. By then a
// further one has its default effect, the end of the process.
func untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, cancel
}

func newLogger(w io.Writer, c logConfig) (*slog.Logger, error) {
	level, err := c.level()
	if err != nil {
		return nil, as(errConfiguration, err)
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return slog.New(slog.NewJSONHandler(w, options)), nil
}
