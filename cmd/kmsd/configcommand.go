package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "Work with configuration files",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	command.AddCommand(configCheckCommand())
	return command
}

func configCheckCommand() *cobra.Command {
	var path string
	command := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file and the files that it names",
		Long: "Checks a configuration file and the files that it names, without touching the token or the store.\n" +
			"Every problem is printed with its line; then the exit code is 78.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && path != "" {
				return usageError("%s takes one file", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				path = args[0]
			}
			if path == "" {
				return usageError("%s needs a file", cmd.CommandPath())
			}
			if _, err := verifiedConfig(path); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: OK\n", path)
			return err
		},
	}
	command.Flags().StringVar(&path, "config", "", "configuration `file`")
	return command
}

// verifiedConfig loads a configuration and checks it against the files that it names.
// All problems are returned at once, in the order of their lines.
func verifiedConfig(path string) (*config, error) {
	c, f, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	c.verify(f)
	if len(f.problems) > 0 {
		slices.SortStableFunc(f.problems, func(a, b problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, f.problems
	}
	return c, nil
}
