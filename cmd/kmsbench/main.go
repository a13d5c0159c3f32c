// Command kmsbench measures kmsd: it starts one on a throwaway SoftHSM2 token, and what
// it is compared with, and says what they do. See docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit codes. A claim that does not hold and a regression are findings, not failures
// of the program.
const (
	exitFinding = 1
	exitFailure = 2
)

// errFinding is the error of a command that has already printed what it found.
var errFinding = errors.New("see above")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func execute(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errFinding):
		return exitFinding
	default:
		_, _ = fmt.Fprintln(os.Stderr, "kmsbench:", err)
		return exitFailure
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "kmsbench",
		Short: "Measure kmsd",
		Long: "kmsbench measures a real kmsd process on a throwaway SoftHSM2 token, in turns with what it is compared with.\n\n" +
			"Exit codes: 0 success; 1 a claim does not hold, a request failed, or a comparison found a regression;\n" +
			"2 anything else.",
		SilenceErrors: true, // execute prints them
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // else cobra takes an unknown command for a question
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q; see kmsbench --help", args[0])
			}
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(runCommand(), listCommand(), compareCommand(), reportCommand(), echoCommand())
	return root
}
