package wire

import (
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeReplica makes the message of a replica.
func EncodeReplica(r *kms.ReplicaInfo) *kmsv1.Replica {
	return &kmsv1.Replica{
		Id:              r.ID,
		Name:            r.Replica,
		Release:         r.Release,
		StartTime:       encodeTime(r.StartTime),
		LeaseDuration:   encodeDuration(r.Duration),
		RenewalCount:    r.Counter,
		AppliedRevision: uint64(r.Applied),
		Lag:             r.Lag,
		Self:            r.Self,
		Live:            r.Live,
		IdleDuration:    encodeDuration(r.Idle),
	}
}

// DecodeReplica reads a replica.
func DecodeReplica(m *kmsv1.Replica) *kms.ReplicaInfo {
	return &kms.ReplicaInfo{
		Lease: kms.Lease{
			ID:        m.GetId(),
			Counter:   m.GetRenewalCount(),
			Applied:   kms.Revision(m.GetAppliedRevision()),
			Duration:  m.GetLeaseDuration().AsDuration(),
			Replica:   m.GetName(),
			Release:   m.GetRelease(),
			StartTime: decodeTime(m.GetStartTime()),
		},
		Self: m.GetSelf(),
		Lag:  m.GetLag(),
		Live: m.GetLive(),
		Idle: m.GetIdleDuration().AsDuration(),
	}
}

// EncodeListReplicasResponse makes the message.
func EncodeListReplicasResponse(replicas []*kms.ReplicaInfo) *kmsv1.ListReplicasResponse {
	return &kmsv1.ListReplicasResponse{Replicas: each(replicas, EncodeReplica)}
}

// DecodeListReplicasResponse reads the replicas.
func DecodeListReplicasResponse(m *kmsv1.ListReplicasResponse) []*kms.ReplicaInfo {
	return each(m.GetReplicas(), DecodeReplica)
}
