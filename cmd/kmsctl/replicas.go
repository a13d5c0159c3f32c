package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newReplicas(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "replicas",
		Short: "List the replicas of the service",
		Long: `List the replicas of the service, as their leases show them to the one that answers:
how many revisions each is behind (lag), how long its lease lasts, and whether it was
renewed in time (live). A replica that is not live serves nothing; its row goes away
when another replica has noticed that.`,
		Args: between(0, 0),
		RunE: a.connected(func(ctx context.Context, conn *connection, _ []string) error {
			r, err := conn.System().ListReplicas(ctx, &kmsv1.ListReplicasRequest{})
			if err != nil {
				return err
			}
			return showList(a, r.GetReplicas(), replicaRow)
		}),
	}
}

func replicaRow(r *kmsv1.Replica) []column {
	live := "yes"
	if !r.GetLive() {
		live = "no"
	}
	answers := ""
	if r.GetSelf() {
		answers = "yes"
	}
	lease, idle := "", ""
	if r.GetLeaseDuration() != nil {
		lease = r.GetLeaseDuration().AsDuration().String()
		idle = tookText(r.GetIdleDuration().AsDuration())
	}
	return []column{
		{name: "name", value: r.GetName()},
		{name: "id", value: r.GetId()},
		{name: "release", value: r.GetRelease()},
		{name: "applied", value: strconv.FormatUint(r.GetAppliedRevision(), 10)},
		{name: "lag", value: strconv.FormatUint(r.GetLag(), 10)},
		{name: "lease", value: lease},
		{name: "idle", value: idle, detail: true},
		{name: "renewals", value: strconv.FormatUint(r.GetRenewalCount(), 10), detail: true},
		{name: "live", value: live},
		{name: "since", value: timeText(r.GetStartTime())},
		{name: "answers", value: answers},
	}
}
