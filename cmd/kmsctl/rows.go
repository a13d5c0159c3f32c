package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func namespaceRow(n *kmsv1.Namespace) []column {
	return []column{
		{name: "name", value: lastSegment(n.GetName())},
		{name: "resource", value: n.GetName(), detail: true},
		{name: "created", value: timeText(n.GetCreateTime())},
	}
}

func keyRow(k *kmsv1.Key) []column {
	return []column{
		{name: "name", value: lastSegment(k.GetName())},
		{name: "resource", value: k.GetName(), detail: true},
		{name: "purpose", value: strings.TrimPrefix(k.GetPurpose().String(), "PURPOSE_")},
		{name: "algorithm", value: algorithmText(k.GetAlgorithm())},
		{name: "profile", value: profileText(k.GetProtectionProfile())},
		{name: "primary", value: lastSegment(k.GetPrimaryVersion())},
		{name: "state", value: stateText(k.GetPrimaryState())},
		{name: "versions", value: strconv.Itoa(int(k.GetVersionCount()))},
		{name: "rotation period", value: periodText(k), detail: true},
		{name: "created", value: timeText(k.GetCreateTime())},
		{name: "rotated", value: timeText(k.GetRotateTime()), detail: true},
		{name: "next rotation", value: timeText(k.GetNextRotationTime()), detail: true},
		{name: "labels", value: labelsText(k.GetLabels())},
		{name: "etag", value: k.GetEtag(), detail: true},
	}
}

func versionRow(v *kmsv1.KeyVersion) []column {
	state := stateText(v.GetState())
	if v.GetUnavailableReason() != "" {
		state += " (unavailable)"
	}
	primary := ""
	if v.GetPrimary() {
		primary = "yes"
	}
	return []column{
		{name: "version", value: lastSegment(v.GetName())},
		{name: "resource", value: v.GetName(), detail: true},
		{name: "state", value: state},
		{name: "unavailable", value: v.GetUnavailableReason(), detail: true},
		{name: "primary", value: primary},
		{name: "algorithm", value: algorithmText(v.GetAlgorithm())},
		{name: "origin", value: originText(v)},
		{name: "uid", value: v.GetUid()},
		{name: "created", value: timeText(v.GetCreateTime())},
		{name: "first use", value: timeText(v.GetFirstUseTime())},
		{name: "uses", value: usesText(v)},
		{name: "last used", value: timeText(lastUsed(v))},
		{name: "usage", value: usageText(v), detail: true},
		{name: "destruction", value: timeText(v.GetDestroyTime())},
		{name: "restored as", value: restoredText(v), detail: true},
		{name: "changed", value: timeText(v.GetStateTime())},
		{name: "changed by", value: v.GetStatePrincipal(), detail: true},
		{name: "reason", value: v.GetStateReason()},
		{name: "attributes", value: attributesText(v.GetAttributes()), detail: true},
		{name: "etag", value: v.GetEtag(), detail: true},
	}
}

// findingRow has the remedy behind the detail: a column of its own would begin where the
// longest detail of all ends, far outside of any window.
func findingRow(f *kmsv1.Finding) []column {
	detail := f.GetDetail()
	if remedy := f.GetRemedy(); remedy != "" {
		detail += ". What to do: " + remedy
	}
	return []column{
		{name: "result", value: strings.TrimPrefix(f.GetSeverity().String(), "SEVERITY_")},
		{name: "area", value: f.GetArea()},
		{name: "check", value: f.GetCheck()},
		{name: "detail", value: detail},
	}
}

func lastSegment(name string) string { return name[strings.LastIndex(name, "/")+1:] }

func stateText(s kmsv1.KeyVersionState) string {
	return strings.TrimPrefix(s.String(), "KEY_VERSION_STATE_")
}

// profileText is empty for keys that have none.
func profileText(p kmsv1.ProtectionProfile) string {
	if p == kmsv1.ProtectionProfile_PROTECTION_PROFILE_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(p.String(), "PROTECTION_PROFILE_")
}

// timeText is RFC 3339 in UTC, to the second; empty for a time that is not set.
func timeText(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return t.AsTime().UTC().Format(time.RFC3339)
}

func periodText(k *kmsv1.Key) string {
	if k.GetRotationPeriod() == nil {
		return "none"
	}
	return k.GetRotationPeriod().AsDuration().String()
}

// labelsText is k=v,k=v in the order of keys.
func labelsText(labels map[string]string) string {
	pairs := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, fmt.Sprintf("%s=%s", k, labels[k]))
	}
	return strings.Join(pairs, ",")
}
