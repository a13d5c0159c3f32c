package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
)

// The commands below hsm open the token that a configuration names, and nothing else of
// it: no data directory is locked and no store opened, so that they work beside a server
// that runs.

func hsmCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "hsm",
		Short: "Examine the token of a configuration",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	command.AddCommand(hsmBenchCommand(), hsmInfoCommand())
	return command
}

// withToken opens the token as it is by itself, gives it to f with the log, which goes to
// standard error, and closes it.
func withToken(ctx context.Context, c *config, f func(*pkcs11hsm.Token, *slog.Logger) error) (err error) {
	log, err := newLogger(os.Stderr, c.Log)
	if err != nil {
		return err
	}
	token, err := openToken(ctx, c.HSM, 0, log)
	if err != nil {
		return err
	}
	defer closing(&err, "the token", token.Close)
	return f(token, log)
}

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}
