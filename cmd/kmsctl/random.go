package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
)

func newRandom(a *app) *cobra.Command {
	var format string
	formats := []string{"hex", "base64", "raw"}
	cmd := &cobra.Command{
		Use:   "random SIZE",
		Short: "Get random bytes from the HSM",
		Long:  "Get SIZE random bytes, 1 to 65536, from the HSM's generator.",
		Args:  between(1, 1),
	}
	cmd.Flags().StringVar(&format, "format", "hex", strings.Join(formats, ", "))
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		if !slices.Contains(formats, format) {
			return usagef("--format %q: want %s", format, strings.Join(formats, ", "))
		}
		size, err := strconv.Atoi(args[0])
		if err != nil || size < 1 || size > kms.MaxRandom {
			return usagef("size %q: want a number of bytes from 1 to %d", args[0], kms.MaxRandom)
		}
		if format == "raw" && a.terminal(a.stdout) {
			return usagef("--format raw is not for a terminal: redirect standard output")
		}
		data, err := conn.api.GenerateRandom(ctx, kms.Principal{}, size)
		if err != nil {
			return err
		}
		defer data.Wipe()
		var text bytes.Buffer
		switch format {
		case "raw":
			text.Write(data)
		case "base64":
			text.WriteString(encode64(data) + "\n")
		default:
			text.WriteString(hex.EncodeToString(data) + "\n")
		}
		_, err = a.stdout.Write(text.Bytes())
		return err
	})
	return cmd
}
