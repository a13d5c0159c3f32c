package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newRotate(a *app) *cobra.Command {
	request := &kmsv1.RotateKeyRequest{}
	cmd := &cobra.Command{
		Use:   "rotate KEY",
		Short: "Make a new version of a key and make it primary",
		Long: `Make a new version of a key and make it primary: when the command has succeeded
all new data uses it. Older versions keep their state, so what they protect still opens.

With --restrict-previous, for a compromise, the older versions that are ENABLED become
REWRAP_ONLY in the same change: "kmsctl rewrap" moves what they protect to the new
version, and nothing comes out of the service that they protect.`,
		Example: `  kmsctl rotate orders
  kmsctl rotate orders --restrict-previous --reason "backup stolen"`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.BoolVar(&request.RestrictPrevious, "restrict-previous", false, "make the older versions REWRAP_ONLY")
	flags.StringVar(&request.Reason, "reason", "", "why, kept with the versions that are restricted")
	flags.StringVar(&request.RequestId, "request-id", "",
		"a UUID: a rotation repeated with it is the same rotation (default: a new one)")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		name, err := parseKey(args[0], conn.namespace)
		if err != nil {
			return err
		}
		if request.GetRestrictPrevious() {
			if request.GetReason() == "" {
				return usagef("--reason is required with --restrict-previous: it is kept with the versions")
			}
			if err := a.confirm(fmt.Sprintf("%s: its older versions will rewrap only. Whoever decrypts what they "+
				"protect is refused until it is rewrapped.", name)); err != nil {
				return err
			}
		}
		request.Name = name.String()
		if request.GetRequestId() == "" {
			request.RequestId = uuid.NewString() // the calls that wait on must not rotate again
		}
		rotated, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.RotateKeyResponse, error) {
			return conn.Keys().RotateKey(ctx, request)
		})
		if errors.Is(wire.FromStatus(err), kms.ErrStillSpreading) {
			return &advisedError{err, fmt.Sprintf("the key is rotated. To wait on, repeat the command with --request-id %s; "+
				"without it, it rotates again. \"kmsctl replicas\" shows which replica is behind.", request.GetRequestId())}
		}
		if err != nil {
			return err
		}
		return showOne(a, rotated, rotationRow)
	})
	return cmd
}

func rotationRow(r *kmsv1.RotateKeyResponse) []column {
	restricted := make([]string, len(r.GetRestricted()))
	for i, v := range r.GetRestricted() {
		restricted[i] = lastSegment(v.GetName())
	}
	return append(versionRow(r.GetVersion()),
		column{name: "restricted", value: strings.Join(restricted, ", ")},
		column{name: "replicas", value: spreadText(r.GetSpread())})
}

func newEnable(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:               "enable KEY/VERSION",
		Short:             "Enable a key version that is disabled or restricted",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseVersion(args[0], conn.namespace)
			if err != nil {
				return err
			}
			r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.EnableKeyVersionResponse, error) {
				return conn.Keys().EnableKeyVersion(ctx, &kmsv1.EnableKeyVersionRequest{
					Name: name.String(), Reason: reason,
				})
			})
			return showChange(a, r, err)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, kept with the version")
	return cmd
}

func newDisable(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:               "disable KEY/VERSION",
		Short:             "Disable a key version until it is enabled again",
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseVersion(args[0], conn.namespace)
			if err != nil {
				return err
			}
			if err := a.confirmChange(ctx, conn, name, "Disabling it stops everything that needs it, "+
				"until it is enabled again."); err != nil {
				return err
			}
			r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.DisableKeyVersionResponse, error) {
				return conn.Keys().DisableKeyVersion(ctx, &kmsv1.DisableKeyVersionRequest{
					Name: name.String(), Reason: reason,
				})
			})
			return showChange(a, r, err)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, kept with the version")
	return cmd
}

func newRevoke(a *app) *cobra.Command {
	var (
		reason   string
		dataLoss bool
	)
	cmd := &cobra.Command{
		Use:   "revoke KEY/VERSION --reason TEXT",
		Short: "Revoke a key version for ever",
		Long: `Revoke a key version for ever. When the command has succeeded no replica of the
service serves a request with it any more. What it protects and was not rewrapped is
lost: for a version that was ever used, --accept-data-loss has to say so.`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeVersion,
		RunE: a.connected(func(ctx context.Context, conn *connection, args []string) error {
			name, err := parseVersion(args[0], conn.namespace)
			if err != nil {
				return err
			}
			if reason == "" {
				return usagef("--reason is required: it is kept with the version and shown to whoever is refused")
			}
			if err := a.confirmChange(ctx, conn, name, "Revoking it is for ever: what it protects and was not "+
				"rewrapped is lost."); err != nil {
				return err
			}
			r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.RevokeKeyVersionResponse, error) {
				return conn.Keys().RevokeKeyVersion(ctx, &kmsv1.RevokeKeyVersionRequest{
					Name: name.String(), Reason: reason, DataLossAccepted: dataLoss,
				})
			})
			return showChange(a, r, err)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, kept with the version and shown to whoever is refused")
	cmd.Flags().BoolVar(&dataLoss, "accept-data-loss", false, "give up what the version protects")
	return cmd
}

// confirmChange asks before harm is done to a version, and shows what is known of its
// use. It asks the service only if it is going to ask the user.
func (a *app) confirmChange(ctx context.Context, conn *connection, name kms.VersionName, consequence string) error {
	question := name.String()
	if !a.yes && a.terminal(a.stdin) {
		version, err := conn.Keys().GetKeyVersion(ctx, &kmsv1.GetKeyVersionRequest{Name: name.String()})
		if err != nil {
			return err
		}
		used := "was never used"
		if first := timeText(version.GetFirstUseTime()); first != "" {
			used = "has been in use since " + first
		}
		if usage := usageText(version); usage != "" {
			used += " (" + usage + ")"
		}
		role := ""
		if version.GetPrimary() {
			role = ", the primary version of its key,"
		}
		question = fmt.Sprintf("%s%s is %s and %s. %s", name, role, stateText(version.GetState()), used, consequence)
	}
	return a.confirm(question)
}

// change is the response of a change of state.
type change interface {
	proto.Message
	GetVersion() *kmsv1.KeyVersion
	GetTokenSwitch() kmsv1.TokenSwitch
	GetSpread() *kmsv1.Spread
}

func showChange[C change](a *app, r C, err error) error {
	if err != nil {
		return err
	}
	switch r.GetTokenSwitch() {
	case kmsv1.TokenSwitch_TOKEN_SWITCH_FAILED:
		a.sayf("kmsctl: the service has made the change, but could not switch the HSM object; it tries again at its next start")
	case kmsv1.TokenSwitch_TOKEN_SWITCH_UNSUPPORTED:
		a.sayf("kmsctl: the service has made the change; this HSM cannot switch the object itself")
	case kmsv1.TokenSwitch_TOKEN_SWITCH_DONE, kmsv1.TokenSwitch_TOKEN_SWITCH_UNSPECIFIED:
	}
	return showOne(a, r, func(r C) []column {
		return append(versionRow(r.GetVersion()),
			column{name: "HSM object", value: switchText(r.GetTokenSwitch())},
			column{name: "replicas", value: spreadText(r.GetSpread())})
	})
}

func switchText(s kmsv1.TokenSwitch) string {
	switch s {
	case kmsv1.TokenSwitch_TOKEN_SWITCH_DONE:
		return "switched to match"
	case kmsv1.TokenSwitch_TOKEN_SWITCH_UNSUPPORTED:
		return "cannot be switched by this HSM"
	case kmsv1.TokenSwitch_TOKEN_SWITCH_FAILED:
		return "not switched yet"
	case kmsv1.TokenSwitch_TOKEN_SWITCH_UNSPECIFIED:
	}
	return ""
}
