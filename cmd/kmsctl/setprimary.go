package main

import (
	"context"

	"github.com/spf13/cobra"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newSetPrimary(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "set-primary KEY/VERSION",
		Short: "Make a version that exists the primary one of its key",
		Long: `Make a version that exists the primary one of its key: one that was imported beside it,
or an older one. When the command has succeeded all new data uses it. The states of the
versions stay as they are, so what the others protect still opens.

A version that makes nothing new is refused, and so is one that is older than the key's
rotation period.`,
		Example:           "  kmsctl key set-primary orders/2",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseVersion(args[0], conn.namespace)
			if err != nil {
				return err
			}
			r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.SetPrimaryKeyVersionResponse, error) {
				return conn.Keys().SetPrimaryKeyVersion(ctx, &kmsv1.SetPrimaryKeyVersionRequest{
					Name: name.String(), Reason: reason,
				})
			})
			if err != nil {
				return err
			}
			return showOne(a, r, func(r *kmsv1.SetPrimaryKeyVersionResponse) []column {
				return append(versionRow(r.GetVersion()), column{name: "replicas", value: spreadText(r.GetSpread())})
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	return cmd
}
