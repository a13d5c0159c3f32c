package main

import (
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// usesText is how often a version was used, whatever for; empty: never.
func usesText(v *kmsv1.KeyVersion) string {
	var total uint64
	for _, u := range v.GetUsage() {
		total += u.GetCount()
	}
	if total == 0 {
		return ""
	}
	return strconv.FormatUint(total, 10)
}

// lastUsed is when a version was last used, whatever for; nil: never.
func lastUsed(v *kmsv1.KeyVersion) *timestamppb.Timestamp {
	var last *timestamppb.Timestamp
	for _, u := range v.GetUsage() {
		if at := u.GetLastUsedTime(); last == nil || at.AsTime().After(last.AsTime()) {
			last = at
		}
	}
	return last
}

// usageText is how a version was used: in all, when last, and for what.
func usageText(v *kmsv1.KeyVersion) string {
	uses := usesText(v)
	if uses == "" {
		return ""
	}
	actions := make([]string, len(v.GetUsage()))
	for i, u := range v.GetUsage() {
		actions[i] = fmt.Sprintf("%s %d", u.GetAction(), u.GetCount())
	}
	return fmt.Sprintf("%s uses, last at %s: %s", uses, timeText(lastUsed(v)), strings.Join(actions, ", "))
}

// restoredText is the state that a version that is to be destroyed can be restored to.
func restoredText(v *kmsv1.KeyVersion) string {
	if v.GetRestoreState() == kmsv1.KeyVersionState_KEY_VERSION_STATE_UNSPECIFIED {
		return ""
	}
	return stateText(v.GetRestoreState())
}
