package telemetry

import (
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// TestReplica: what is told of the replica is what the service says now, and a change that
// did not come to be known everywhere is not counted as one that did.
func TestReplica(t *testing.T) {
	m := NewMetrics("v1.2.3")
	status := kms.ReplicaStatus{Revision: 41, Serving: true}
	m.Replica(func() kms.ReplicaStatus { return status })
	m.want(t, map[string]float64{`keyholt_replica_revision`: 41, `keyholt_replica_lease_valid`: 1})
	status = kms.ReplicaStatus{Revision: 42}
	m.want(t, map[string]float64{`keyholt_replica_revision`: 42, `keyholt_replica_lease_valid`: 0})

	m.replica.count(&kms.Event{Action: kms.ActionGetKey})
	m.replica.count(&kms.Event{Spread: &kms.Spread{Revision: 1}, Err: kms.ErrStillSpreading})
	m.want(t, map[string]float64{`keyholt_change_spread_seconds`: 0})
	m.replica.count(&kms.Event{Spread: &kms.Spread{Revision: 1, Took: 2 * time.Second}})
	m.want(t, map[string]float64{`keyholt_change_spread_seconds`: 1})
}
