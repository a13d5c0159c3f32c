package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newRestrict(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "restrict KEY/VERSION",
		Short: "Let a key version under suspicion be rewrapped from, and nothing else",
		Long: `Let a key version under suspicion be rewrapped from, and nothing else, until it is
enabled again: "kmsctl rewrap" moves what it protects to the primary version, and
nothing that it protects comes out of the service. "kmsctl rotate --restrict-previous"
does it for all older versions of a key.`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseVersion(args[0], conn.namespace)
			if err != nil {
				return err
			}
			if err := a.confirmChange(ctx, conn, name, "Restricting it stops everything that needs it, but for "+
				"rewrapping, until it is enabled again."); err != nil {
				return err
			}
			r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.RestrictKeyVersionResponse, error) {
				return conn.Keys().RestrictKeyVersion(ctx, &kmsv1.RestrictKeyVersionRequest{
					Name: name.String(), Reason: reason,
				})
			})
			return showChange(a, r, err)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, kept with the version and shown to whoever is refused")
	return cmd
}

// windowHelp is the help of --window.
const windowHelp = "how long until then, such as 720h (default: as the service is configured)"

func newScheduleDestruction(a *app) *cobra.Command {
	request := &kmsv1.ScheduleKeyVersionDestructionRequest{}
	var window time.Duration
	cmd := &cobra.Command{
		Use:   "schedule-destruction KEY/VERSION --reason TEXT",
		Short: "Have the HSM object of a key version destroyed after a window",
		Long: `Stop all use of a key version, and have its HSM object destroyed when a window has
passed. Until then "kmsctl restore" takes it back. What the version protects and was not
rewrapped is lost: for a version that was ever used, --accept-data-loss has to say so.

"kmsctl key versions KEY -o wide" shows when it was last used, and for what: what it
still protects nobody can count but who holds the data ("kmsctl rewrap --count").`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Reason, "reason", "", "why, kept with the version and shown to whoever is refused")
	flags.DurationVar(&window, "window", 0, windowHelp)
	flags.BoolVar(&request.DataLossAccepted, "accept-data-loss", false, "give up what the version protects")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		name, err := parseVersion(args[0], conn.namespace)
		if err != nil {
			return err
		}
		if request.GetReason() == "" {
			return usagef("--reason is required: it is kept with the version and shown to whoever is refused")
		}
		if request.Window, err = windowOf(cmd, window); err != nil {
			return err
		}
		if err := a.confirmChange(ctx, conn, name, "Nothing can be done with it from now on, and when the window has "+
			"passed its HSM object is destroyed: what it protects and was not rewrapped is lost."); err != nil {
			return err
		}
		request.Name = name.String()
		r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.ScheduleKeyVersionDestructionResponse, error) {
			return conn.Keys().ScheduleKeyVersionDestruction(ctx, request)
		})
		return showChange(a, r, err)
	})
	return cmd
}

// windowOf is the value of --window; nil if it was not given.
func windowOf(cmd *cobra.Command, window time.Duration) (*durationpb.Duration, error) {
	if !cmd.Flags().Changed("window") {
		return nil, nil //nolint:nilnil // an unset field: the service's default
	}
	if window <= 0 {
		return nil, usagef("--window %v: want a positive duration", window)
	}
	return durationpb.New(window), nil
}

func newRestore(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "restore KEY/VERSION",
		Short: "Take back the scheduled destruction of a key version",
		Long: `Take back the scheduled destruction of a key version. It is then REVOKED if it was
before, else DISABLED; "kmsctl enable" lets it be used again.`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseVersion(args[0], conn.namespace)
			if err != nil {
				return err
			}
			r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.RestoreKeyVersionResponse, error) {
				return conn.Keys().RestoreKeyVersion(ctx, &kmsv1.RestoreKeyVersionRequest{
					Name: name.String(), Reason: reason,
				})
			})
			return showChange(a, r, err)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, kept with the version")
	return cmd
}
