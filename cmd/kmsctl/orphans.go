package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newHSM(a *app) *cobra.Command {
	return group("hsm", "Look after the objects in the HSM",
		newOrphans(a),
	)
}

func newOrphans(a *app) *cobra.Command {
	var (
		remove bool
		window time.Duration
	)
	request := &kmsv1.ScheduleOrphanDestructionRequest{}
	cmd := &cobra.Command{
		Use:   "orphans [UID...]",
		Short: "List the HSM objects that no key version names, or have them destroyed",
		Long: `List the HSM objects that carry the store's label and that no key version names, such
as what a crash has left. Seal keys are none of them, former ones neither.

With --delete those with the given UIDs, or all that are listed, are destroyed when a
window has passed. The service refuses that after its store was taken back to an older
state: an object without a row may then be what a lost row named.`,
		Example: `  kmsctl hsm orphans
  kmsctl hsm orphans 6f1e... --delete --reason "left by the crash of May 3rd"`,
		Args: cobra.ArbitraryArgs,
	}
	flags := cmd.Flags()
	flags.BoolVar(&remove, "delete", false, "have them destroyed")
	flags.StringVar(&request.Reason, "reason", "", "why, for the audit log")
	flags.DurationVar(&window, "window", 0, windowHelp)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if !remove && (len(args) > 0 || request.GetReason() != "" || flags.Changed("window")) {
			return usagef("UID, --reason and --window belong to --delete")
		}
		if remove && request.GetReason() == "" {
			return usagef("--reason is required with --delete: it is kept in the audit log")
		}
		var err error
		if request.Window, err = windowOf(cmd, window); err != nil {
			return err
		}
		list, err := conn.System().ListOrphans(ctx, &kmsv1.ListOrphansRequest{})
		if err != nil {
			return err
		}
		if !remove {
			return showList(a, list.GetOrphans(), orphanRow)
		}
		chosen, err := chooseOrphans(list.GetOrphans(), args)
		if err != nil {
			return err
		}
		return a.destroyOrphans(ctx, conn, chosen, request)
	})
	return cmd
}

// chooseOrphans picks those with the UIDs; all if there are none.
func chooseOrphans(orphans []*kmsv1.Orphan, uids []string) ([]*kmsv1.Orphan, error) {
	if len(uids) == 0 {
		return orphans, nil
	}
	byUID := make(map[string]*kmsv1.Orphan, len(orphans))
	for _, o := range orphans {
		byUID[o.GetUid()] = o
	}
	chosen := make([]*kmsv1.Orphan, 0, len(uids))
	for _, uid := range uids {
		o := byUID[strings.ToLower(uid)]
		if o == nil {
			return nil, usagef("%q is no orphan: \"kmsctl hsm orphans\" lists them", uid)
		}
		chosen = append(chosen, o)
	}
	return chosen, nil
}

// destroyOrphans asks, then schedules the destruction of exactly those that were shown.
func (a *app) destroyOrphans(ctx context.Context, conn *connection, chosen []*kmsv1.Orphan,
	request *kmsv1.ScheduleOrphanDestructionRequest,
) error {
	if len(chosen) == 0 {
		return showList(a, chosen, orphanRow)
	}
	if !a.yes {
		for _, o := range chosen {
			a.sayf("%s  %s", o.GetUid(), o.GetLabel())
		}
	}
	if err := a.confirm("To be destroyed when the window has passed: " + kms.Counted(len(chosen), "HSM object") + ". " +
		"Where one is a key that is still needed, what it protects is lost then."); err != nil {
		return err
	}
	var scheduled []*kmsv1.Orphan
	for len(chosen) > 0 {
		some := chosen[:min(len(chosen), kms.MaxItems)]
		chosen = chosen[len(some):]
		request.Uids = make([]string, len(some))
		for i, o := range some {
			request.Uids[i] = o.GetUid()
		}
		r, err := settle(ctx, a, func(ctx context.Context) (*kmsv1.ScheduleOrphanDestructionResponse, error) {
			return conn.System().ScheduleOrphanDestruction(ctx, request)
		})
		if err != nil {
			return err
		}
		scheduled = append(scheduled, r.GetOrphans()...)
	}
	return showList(a, scheduled, orphanRow)
}

func orphanRow(o *kmsv1.Orphan) []column {
	return []column{
		{name: "uid", value: o.GetUid()},
		{name: "label", value: o.GetLabel()},
		{name: "key", value: o.GetKeySpec()},
		{name: "destruction", value: timeText(o.GetDestroyTime())},
	}
}
