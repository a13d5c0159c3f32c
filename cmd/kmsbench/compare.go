package main

import (
	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/bench"
)

func compareCommand() *cobra.Command {
	var o bench.CompareOptions
	command := &cobra.Command{
		Use:   "compare OLD.json NEW.json",
		Short: "Tell two results apart",
		Long: "Compares the figures that two results share. A figure has changed if the Mann-Whitney U test says that its rounds\n" +
			"differ and its median has moved by more than the threshold. Exit code 1 tells a regression.",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			older, err := bench.Read(args[0])
			if err != nil {
				return err
			}
			newer, err := bench.Read(args[1])
			if err != nil {
				return err
			}
			comparison, err := bench.Compare(older, newer, o)
			if err != nil {
				return err
			}
			if err := comparison.Print(cmd.OutOrStdout()); err != nil {
				return err
			}
			if comparison.Regressed() {
				return errFinding
			}
			return nil
		},
	}
	command.Flags().Float64Var(&o.Alpha, "alpha", 0.05, "level of significance")
	command.Flags().Float64Var(&o.Threshold, "threshold", 0.05, "the least change that matters, as a share")
	return command
}
