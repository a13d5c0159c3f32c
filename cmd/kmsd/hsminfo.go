package main

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/hsm/hsmbench"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
)

func hsmInfoCommand() *cobra.Command {
	var flags configFlags
	command := &cobra.Command{
		Use:   "info --config FILE",
		Short: "Say what the token is and can do",
		Long: "Opens the token that a configuration names and prints what it is, what it can do, and what it cannot.\n" +
			"It finds that out by trying, on session objects; nothing is written to the token. It works beside a server.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.load(cmd)
			if err != nil {
				return err
			}
			return withToken(cmd.Context(), c, func(token *pkcs11hsm.Token, _ *slog.Logger) error {
				info := hsmbench.Describe(token.Info())
				if flags.json {
					return printJSON(cmd.OutOrStdout(), info)
				}
				return printTokenInfo(cmd.OutOrStdout(), &info)
			})
		},
	}
	flags.addTo(command)
	return command
}

// printTokenInfo prints one property a line.
func printTokenInfo(w io.Writer, info *hsmbench.TokenInfo) error {
	var b strings.Builder
	for _, row := range [...]struct{ name, value string }{
		{"module", info.Module},
		{"library", info.Library},
		{"PKCS#11 version", info.Cryptoki},
		{"label", info.Label},
		{"serial number", info.Serial},
		{"manufacturer", info.Manufacturer},
		{"model", info.Model},
		{"firmware", info.Firmware},
		{"sessions", strconv.Itoa(info.Sessions)},
		{"bytes of a call", strconv.Itoa(info.MaxBlockBytes)},
		{"key specifications", strings.Join(info.Specifications, ", ")},
		{"allowed mechanisms", kept(info.AllowedMechs)},
		{"usage attributes", kept(info.UsageSwitch)},
		{"session keys", yesNo(info.SessionKeys)},
		{"chooses GCM nonces", yesNo(info.TokenNonces)},
		{"mechanisms", strings.Join(info.Mechanisms, ", ")},
	} {
		_, _ = fmt.Fprintf(&b, "%-20s%s\n", row.name, row.value)
	}
	for _, limitation := range info.Limitations {
		_, _ = fmt.Fprintf(&b, "%-20s%s: %s\n", "limitation", limitation.Name, limitation.Detail)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func kept(enforced bool) string {
	if enforced {
		return "enforced"
	}
	return "not enforced"
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
