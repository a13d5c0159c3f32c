package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/bench"
)

func listCommand() *cobra.Command {
	var quick bool
	command := &cobra.Command{
		Use:   "list",
		Short: "List the scenarios by group",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			groups := bench.Full()
			if quick {
				groups = bench.Quick()
			}
			for _, g := range groups {
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), g.Name); err != nil {
					return err
				}
				for _, s := range g.Scenarios {
					if _, err := fmt.Fprintln(cmd.OutOrStdout(), "  "+s.Name()); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
	command.Flags().BoolVar(&quick, "quick", false, "only what the claims need")
	return command
}
