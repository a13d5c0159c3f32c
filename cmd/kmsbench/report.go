package main

import (
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/bench"
)

// pageFile is the name of the page beside the figures.
const pageFile = "report.html"

func reportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "report RESULT.json",
		Short: "Print a result, and draw its plots and its page again beside it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := bench.Read(args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			return errors.Join(r.PrintScenarios(out), r.PrintClaims(out), publish(r, filepath.Dir(args[0])))
		},
	}
}

// publish writes the plots and the page.
func publish(r *bench.Report, dir string) error {
	return errors.Join(r.WritePlots(dir), r.WritePage(filepath.Join(dir, pageFile)))
}
