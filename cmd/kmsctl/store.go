package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newStore(a *app) *cobra.Command {
	return group("store", "Verify, seal, back up and restore the metadata",
		newStoreVerify(a),
		newStoreReseal(a),
		newStoreBackup(a),
		newStoreRestore(a),
	)
}

func newStoreVerify(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Verify the seals of the whole store",
		Long: `Read the whole store and verify the seal of each row and that of the whole set: a row
that was changed, deleted, or replaced by an older one is named. The exit code is 1 if
there is one.`,
		Args: between(0, 0),
		RunE: a.connected(func(ctx context.Context, conn *connection, _ []string) error {
			r, err := conn.System().VerifyStore(ctx, &kmsv1.VerifyStoreRequest{})
			if err != nil {
				return err
			}
			if err := showOne(a, r.GetReport(), reportRow); err != nil {
				return err
			}
			if n := len(r.GetReport().GetProblems()); n > 0 {
				return &advisedError{
					fmt.Errorf("the store was tampered with; problems: %d", n),
					"find out who changed it, and restore it from a backup.",
				}
			}
			return nil
		}),
	}
}

func newStoreReseal(a *app) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "reseal --reason TEXT",
		Short: "Seal the whole store anew under a new seal key",
		Long: `Make a new seal key in the HSM and seal every row anew under it. The former seal key
stays in the HSM: backups that it has sealed need it to be verified.`,
		Args: between(0, 0),
		RunE: a.connected(func(ctx context.Context, conn *connection, _ []string) error {
			if reason == "" {
				return usagef("--reason is required: it is kept in the audit log")
			}
			r, err := conn.System().ResealStore(ctx, &kmsv1.ResealStoreRequest{Reason: reason})
			if errors.Is(wire.FromStatus(err), kms.ErrStillSpreading) {
				return &advisedError{err, `the store is sealed anew: do not repeat the command, which would do it again. ` +
					`"kmsctl replicas" shows which replica is behind.`}
			}
			if err != nil {
				return err
			}
			return showOne(a, r.GetReport(), reportRow)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the audit log")
	return cmd
}

func newStoreBackup(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a backup of the metadata",
		Long: `Write a backup of the metadata, as it is at one revision, with all seals. It holds no
key material: keys are in the HSM, whose own backup belongs to it.

The file appears under its name when it is complete and on disk, with mode 0600. FILE may
be - for standard output: a reader of it has to heed the exit code.`,
		Args: between(1, 1),
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it exists")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		ctx, cancel := a.streamContext(ctx, cmd)
		defer cancel()
		if args[0] == "-" && a.terminal(a.stdout) {
			return usagef("a backup is long: name a file")
		}
		out, err := createOut(ctx, args[0], force, a.stdout)
		if err != nil {
			return err
		}
		report, err := conn.api.BackupStore(ctx, kms.Principal{}, out)
		if err != nil {
			return errors.Join(err, out.abort())
		}
		if err := out.commit(); err != nil {
			return err
		}
		if out.file == nil {
			return nil // standard output has the backup
		}
		return showOne(a, wire.EncodeStoreReport(report), reportRow)
	})
	return cmd
}

func newStoreRestore(a *app) *cobra.Command {
	request := &kms.RestoreStoreRequest{}
	cmd := &cobra.Command{
		Use:   "restore FILE --reason TEXT",
		Short: "Restore a backup of the metadata into a store without keys",
		Long: `Restore a backup of the metadata into a store without keys. The HSM must hold the keys
that the backup names, from its own backup if need be; the one that has sealed the
backup verifies it.

What was done after the backup is forgotten, revocations included. A backup that is
older than the newest state of its store that the HSM remembers is refused without
--accept-rollback. STRICT versions encrypt no more after a restoration until their keys
are rotated, and orphans are not destroyed any more. FILE may be - for standard input.`,
		Args: between(1, 1),
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Reason, "reason", "", "why, kept in the store")
	flags.BoolVar(&request.AcceptRollback, "accept-rollback", false, "restore a backup older than the newest known state")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if strings.TrimSpace(request.Reason) == "" {
			return usagef("--reason is required: it is kept in the store")
		}
		if err := a.confirm("What was done after the backup is forgotten, revocations included."); err != nil {
			return err
		}
		ctx, cancel := a.streamContext(ctx, cmd)
		defer cancel()
		backup, _, closeIn, err := a.openIn(ctx, args[0])
		if err != nil {
			return err
		}
		defer closeIn()
		request.Backup = backup
		report, err := conn.api.RestoreStore(ctx, kms.Principal{}, request)
		if err != nil {
			return err
		}
		return showOne(a, wire.EncodeStoreReport(report), reportRow)
	})
	return cmd
}

// streamContext has the deadline of --timeout if that was given: its default is for calls
// that carry less.
func (a *app) streamContext(ctx context.Context, cmd *cobra.Command) (context.Context, context.CancelFunc) {
	if cmd.Flags().Changed("timeout") {
		return context.WithTimeout(ctx, a.timeout)
	}
	return context.WithCancel(ctx)
}

func reportRow(r *kmsv1.StoreReport) []column {
	rows := make([]string, 0, len(r.GetRows()))
	for _, kind := range slices.Sorted(maps.Keys(r.GetRows())) {
		rows = append(rows, kms.Counted(r.GetRows()[kind], strings.ReplaceAll(strings.TrimSuffix(kind, "s"), "_", " ")))
	}
	columns := []column{
		{name: "store", value: r.GetStoreId()},
		{name: "revision", value: strconv.FormatUint(r.GetRevision(), 10)},
		{name: "seal key", value: r.GetSealKeyUid()},
		{name: "rows", value: strings.Join(rows, ", ")},
		{name: "replicas", value: spreadText(r.GetSpread())},
	}
	for _, problem := range r.GetProblems() {
		columns = append(columns, column{name: "problem", value: problem})
	}
	return columns
}
