package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// What this program makes is for its own user: sockets, logs, the store's files.
	syscall.Umask(0o077)
	os.Exit(execute(context.Background(), os.Args[1:]))
}

// execute runs the command line and returns the exit code.
func execute(ctx context.Context, args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.As(err, new(loggedError)) {
		for _, line := range errorLines(err) {
			_, _ = fmt.Fprintln(os.Stderr, "kmsd: "+line)
		}
	}
	return exitCodeOf(err)
}

// errorLines is an error as lines: those of a configuration each on its own.
func errorLines(err error) []string {
	var all problems
	if !errors.As(err, &all) {
		return []string{explain(err)}
	}
	lines := make([]string, len(all))
	for i := range all {
		lines[i] = all[i].String()
	}
	return lines
}

// loggedError is an error that the log has told of already.
type loggedError struct{ error }

func (e loggedError) Unwrap() error { return e.error }

func rootCommand() *cobra.Command {
	var showVersion bool
	root := &cobra.Command{
		Use:   "kmsd",
		Short: "Encryption as a service whose keys never leave an HSM",
		Long: "kmsd is the Keyholt server: encryption as a service whose keys never leave a PKCS#11 token.\n\n" +
			"Exit codes:\n" + exitCodeHelp(),
		SilenceErrors: true, // execute prints them
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs, // else cobra reports an unknown command in its own words
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %q; see kmsd --help", args[0])
			}
			if showVersion {
				return printVersion(cmd.OutOrStdout())
			}
			return cmd.Help()
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.Flags().BoolVar(&showVersion, "version", false, "the same as the command version")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return as(errUsage, err) })
	root.AddCommand(serveCommand(), configCommand(), devCommand(), hsmCommand(), migrateCommand(), versionCommand())
	return root
}

func usageError(format string, args ...any) error {
	return as(errUsage, fmt.Errorf(format, args...))
}

// noArguments is the Args of commands that take none.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}
