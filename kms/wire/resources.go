package wire

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// EncodeNamespace makes the message of a namespace.
func EncodeNamespace(n *kms.Namespace) *kmsv1.Namespace {
	return &kmsv1.Namespace{
		Name:       encodeName(n.Name),
		CreateTime: encodeTime(n.CreateTime),
		Etag:       encodeEtag(n.Revision),
	}
}

// DecodeNamespace reads a namespace. CreatedBy is not on the wire.
func DecodeNamespace(m *kmsv1.Namespace) (*kms.Namespace, error) {
	r := response{}
	n := &kms.Namespace{
		Name:       parsed(&r, m.GetName(), kms.ParseNamespaceName),
		CreateTime: decodeTime(m.GetCreateTime()),
		Revision:   parsed(&r, m.GetEtag(), parseEtag),
	}
	return n, r.err
}

// EncodeKey makes the message of a key.
func EncodeKey(k *kms.KeyInfo) *kmsv1.Key {
	m := &kmsv1.Key{
		Name:              encodeName(k.Name),
		Purpose:           purposes.encode(k.Purpose),
		Algorithm:         algorithms.encode(k.Algorithm),
		ProtectionProfile: profiles.encode(k.Profile),
		Labels:            k.Labels,
		RotationPeriod:    encodeDuration(k.RotationPeriod),
		PrimaryState:      states.encode(k.PrimaryState),
		VersionCount:      int32(k.VersionCount),
		CreateTime:        encodeTime(k.CreateTime),
		RotateTime:        encodeTime(k.RotateTime),
		Etag:              encodeEtag(k.Revision),
	}
	if k.RotationPeriod != 0 && !k.RotateTime.IsZero() {
		m.NextRotationTime = encodeTime(k.RotateTime.Add(k.RotationPeriod))
	}
	if k.Primary != 0 {
		m.PrimaryVersion = k.Name.Version(k.Primary).String()
	}
	return m
}

// DecodeKey reads a key. CreatedBy is not on the wire; the time of the next rotation
// follows from what is.
func DecodeKey(m *kmsv1.Key) (*kms.KeyInfo, error) {
	r := response{}
	k := &kms.KeyInfo{
		Key: kms.Key{
			Name:           parsed(&r, m.GetName(), kms.ParseKeyName),
			Purpose:        purposes.lenient(m.GetPurpose()),
			Algorithm:      algorithms.lenient(m.GetAlgorithm()),
			Profile:        profiles.lenient(m.GetProtectionProfile()),
			Labels:         m.GetLabels(),
			RotationPeriod: m.GetRotationPeriod().AsDuration(),
			CreateTime:     decodeTime(m.GetCreateTime()),
			Revision:       parsed(&r, m.GetEtag(), parseEtag),
		},
		PrimaryState: states.lenient(m.GetPrimaryState()),
		VersionCount: int(m.GetVersionCount()),
		RotateTime:   decodeTime(m.GetRotateTime()),
	}
	primary := parsed(&r, m.GetPrimaryVersion(), kms.ParseVersionName)
	if !primary.IsZero() && primary.Key() != k.Name {
		r.refuse("the primary version %q belongs to another key than %q", primary, k.Name)
	}
	k.Primary = primary.Number()
	return k, r.err
}

// EncodeKeyVersion makes the message of a key version.
func EncodeKeyVersion(v *kms.VersionInfo) *kmsv1.KeyVersion {
	return &kmsv1.KeyVersion{
		Name:              encodeName(v.Name),
		State:             states.encode(v.State),
		Primary:           v.Primary,
		Uid:               v.UID.String(),
		CreateTime:        encodeTime(v.CreateTime),
		StateTime:         encodeTime(v.StateTime),
		StatePrincipal:    v.StatePrincipal,
		StateReason:       v.StateReason,
		FirstUseTime:      encodeTime(v.FirstUse),
		UnavailableReason: v.Unavailable,
		Etag:              encodeEtag(v.Revision),
		DestroyTime:       encodeTime(v.DestroyTime),
		RestoreState:      states.encode(v.RestoreTo),
		Usage: each(v.Usage, func(u kms.UsageCount) *kmsv1.KeyVersionUsage {
			return &kmsv1.KeyVersionUsage{
				Action: string(u.Action), Count: u.Count, LastUsedTime: encodeTime(u.LastUsed),
			}
		}),
		Algorithm:  algorithms.encode(v.Algorithm),
		Imported:   v.Imported,
		Attributes: encodeAttributes(&v.Attributes),
		HostReport: encodeHostReport(v.Host),
	}
}

// DecodeKeyVersion reads a key version. The check value, the epoch and what belongs to the
// request id are not on the wire.
func DecodeKeyVersion(m *kmsv1.KeyVersion) (*kms.VersionInfo, error) {
	r := response{}
	v := &kms.VersionInfo{
		Version: kms.Version{
			Name:           parsed(&r, m.GetName(), kms.ParseVersionName),
			UID:            parsed(&r, m.GetUid(), parseUID),
			State:          states.lenient(m.GetState()),
			CreateTime:     decodeTime(m.GetCreateTime()),
			StateTime:      decodeTime(m.GetStateTime()),
			StatePrincipal: m.GetStatePrincipal(),
			StateReason:    m.GetStateReason(),
			DestroyTime:    decodeTime(m.GetDestroyTime()),
			RestoreTo:      states.lenient(m.GetRestoreState()),
			FirstUse:       decodeTime(m.GetFirstUseTime()),
			Attributes:     decodeAttributes(m.GetAttributes()),
			Imported:       m.GetImported(),
			Revision:       parsed(&r, m.GetEtag(), parseEtag),
		},
		Algorithm:   algorithms.lenient(m.GetAlgorithm()),
		Primary:     m.GetPrimary(),
		Unavailable: m.GetUnavailableReason(),
		Host:        decodeHostReport(m.GetHostReport()),
	}
	for _, u := range m.GetUsage() {
		v.Usage = append(v.Usage, kms.UsageCount{
			UID: v.UID, Action: kms.Action(u.GetAction()), Count: u.GetCount(), LastUsed: decodeTime(u.GetLastUsedTime()),
		})
	}
	return v, r.err
}

// response keeps the first thing that is wrong with a response.
type response struct{ err error }

func (r *response) refuse(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrMalformedResponse, fmt.Sprintf(format, args...))
	}
}

// parsed reads a text of a response; an empty one is the zero value.
func parsed[T any](r *response, s string, parse func(string) (T, error)) T {
	var zero T
	if s == "" {
		return zero
	}
	value, err := parse(s)
	if err != nil {
		r.refuse("%v", err)
		return zero
	}
	return value
}

// all decodes the elements of a list.
func all[M, D any](messages []M, decode func(M) (D, error)) ([]D, error) {
	values := make([]D, len(messages))
	for i, m := range messages {
		value, err := decode(m)
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	return values, nil
}

// each encodes the elements of a list.
func each[D, M any](values []D, encode func(D) M) []M {
	messages := make([]M, len(values))
	for i, value := range values {
		messages[i] = encode(value)
	}
	return messages
}

func parseUID(s string) (hsm.UID, error) {
	var uid hsm.UID
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(uid) {
		return uid, fmt.Errorf("%q is not a UID of %d hexadecimal digits", clip(s, 100), 2*len(uid))
	}
	copy(uid[:], raw)
	return uid, nil
}

// encodeEtag is empty for what is not stored.
func encodeEtag(r kms.Revision) string {
	if r == 0 {
		return ""
	}
	return r.Etag()
}

// parseEtag reads the revision that [kms.Revision.Etag] wrote. The service itself only
// compares etags.
func parseEtag(s string) (kms.Revision, error) {
	digits, ok := strings.CutPrefix(s, "r")
	n, err := strconv.ParseUint(digits, 10, 64)
	if !ok || err != nil || kms.Revision(n).Etag() != s {
		return 0, fmt.Errorf("%q is not an etag", clip(s, 100))
	}
	return kms.Revision(n), nil
}

// encodeTime leaves the zero time unset.
func encodeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func decodeTime(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

// encodeDuration leaves zero unset.
func encodeDuration(d time.Duration) *durationpb.Duration {
	if d == 0 {
		return nil
	}
	return durationpb.New(d)
}

// duration reads a duration of a request: unset is zero.
func (d *decoder) duration(field string, m *durationpb.Duration) time.Duration {
	if m == nil {
		return 0
	}
	if err := m.CheckValid(); err != nil {
		d.refuse(field, "is not a valid duration")
		return 0
	}
	// Beyond 292 years a Duration does not fit, and AsDuration would cut it silently.
	value := m.AsDuration()
	if value/time.Second != time.Duration(m.GetSeconds()) {
		d.refuse(field, "is longer than 292 years")
		return 0
	}
	return value
}
