package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/bench/echo"
)

// echoName is the name of the command that run starts this program with for the baseline.
const echoName = "echo"

func echoCommand() *cobra.Command {
	var c echo.Config
	command := &cobra.Command{
		Use:    echoName,
		Short:  "Run the baseline server that does nothing but answer",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.Logger = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil))
			return echo.Serve(cmd.Context(), c)
		},
	}
	flags := command.Flags()
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:0", "host:port")
	flags.StringVar(&c.TLS.CertFile, "cert-file", "", "the server's certificate")
	flags.StringVar(&c.TLS.KeyFile, "key-file", "", "its private key")
	flags.StringVar(&c.TLS.ClientCAFile, "client-ca-file", "", "the authorities of client certificates")
	return command
}
