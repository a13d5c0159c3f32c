package wire

import (
	"fmt"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeOrphan makes the message of an orphan.
func EncodeOrphan(o *kms.OrphanInfo) *kmsv1.Orphan {
	m := &kmsv1.Orphan{Uid: encodeUID(o.UID), Label: clip(o.Label, maxMessage), DestroyTime: encodeTime(o.DestroyTime)}
	if o.Spec != 0 {
		m.KeySpec = o.Spec.String()
	}
	return m
}

// DecodeOrphan reads an orphan. A specification that this side does not know is none.
func DecodeOrphan(m *kmsv1.Orphan) (*kms.OrphanInfo, error) {
	r := response{}
	o := &kms.OrphanInfo{
		UID:         parsed(&r, m.GetUid(), parseUID),
		Label:       m.GetLabel(),
		DestroyTime: decodeTime(m.GetDestroyTime()),
	}
	for _, spec := range hsm.KeySpecs() {
		if spec.String() == m.GetKeySpec() {
			o.Spec = spec
		}
	}
	return o, r.err
}

// EncodeListOrphansResponse makes the message.
func EncodeListOrphansResponse(orphans []*kms.OrphanInfo) *kmsv1.ListOrphansResponse {
	return &kmsv1.ListOrphansResponse{Orphans: each(orphans, EncodeOrphan)}
}

// DecodeListOrphansResponse reads the orphans.
func DecodeListOrphansResponse(m *kmsv1.ListOrphansResponse) ([]*kms.OrphanInfo, error) {
	return all(m.GetOrphans(), DecodeOrphan)
}

// EncodeScheduleOrphanDestructionRequest makes the message.
func EncodeScheduleOrphanDestructionRequest(r *kms.OrphanDestructionRequest,
) *kmsv1.ScheduleOrphanDestructionRequest {
	return &kmsv1.ScheduleOrphanDestructionRequest{
		Uids:   each(r.UIDs, hsm.UID.String),
		Window: encodeDuration(r.Window),
		Reason: r.Reason,
	}
}

// DecodeScheduleOrphanDestructionRequest reads the request.
func DecodeScheduleOrphanDestructionRequest(m *kmsv1.ScheduleOrphanDestructionRequest,
) (*kms.OrphanDestructionRequest, error) {
	if n := len(m.GetUids()); n > kms.MaxItems {
		return nil, tooMany("uids", n)
	}
	d := decoder{}
	r := &kms.OrphanDestructionRequest{
		UIDs:   make([]hsm.UID, len(m.GetUids())),
		Window: d.window(m.GetWindow()),
		Reason: m.GetReason(),
	}
	for i, text := range m.GetUids() {
		r.UIDs[i] = named(&d, fmt.Sprintf("uids[%d]", i), text, true, parseUID)
	}
	return r, d.err()
}

// EncodeScheduleOrphanDestructionResponse makes the message.
func EncodeScheduleOrphanDestructionResponse(orphans []*kms.OrphanInfo) *kmsv1.ScheduleOrphanDestructionResponse {
	return &kmsv1.ScheduleOrphanDestructionResponse{Orphans: each(orphans, EncodeOrphan)}
}

// DecodeScheduleOrphanDestructionResponse reads the orphans.
func DecodeScheduleOrphanDestructionResponse(m *kmsv1.ScheduleOrphanDestructionResponse) ([]*kms.OrphanInfo, error) {
	return all(m.GetOrphans(), DecodeOrphan)
}

// encodeUID is empty for no UID.
func encodeUID(uid hsm.UID) string {
	if uid == (hsm.UID{}) {
		return ""
	}
	return uid.String()
}
