package kms

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/hsm"
)

// attributesOf is what is recorded of a token object when it was made.
func attributesOf(o *hsm.Object) ObjectAttributes {
	a := ObjectAttributes{Attributes: o.Attributes}
	if o.Mechanisms != nil {
		a.Mechanisms = slices.Sorted(slices.Values(o.Mechanisms))
		if a.Mechanisms == nil {
			a.Mechanisms = []string{}
		}
	}
	return a
}

// weakerThan names what of a token object's attributes is weaker than it was recorded;
// empty: nothing. What the token did not report at first is not compared; what it does not
// report any more counts as weaker: nobody can tell.
func (a *ObjectAttributes) weakerThan(recorded *ObjectAttributes) string {
	var weaker []string
	for _, row := range []struct {
		name          string
		recorded, now hsm.Report
		strong        hsm.Report // the value that protects
	}{
		{"CKA_LOCAL", recorded.Local, a.Local, hsm.ReportedTrue},
		{"CKA_SENSITIVE", recorded.Sensitive, a.Sensitive, hsm.ReportedTrue},
		{"CKA_ALWAYS_SENSITIVE", recorded.AlwaysSensitive, a.AlwaysSensitive, hsm.ReportedTrue},
		{"CKA_EXTRACTABLE", recorded.Extractable, a.Extractable, hsm.ReportedFalse},
		{"CKA_NEVER_EXTRACTABLE", recorded.NeverExtractable, a.NeverExtractable, hsm.ReportedTrue},
		{"CKA_MODIFIABLE", recorded.Modifiable, a.Modifiable, hsm.ReportedFalse},
		{"CKA_COPYABLE", recorded.Copyable, a.Copyable, hsm.ReportedFalse},
		{"CKA_PRIVATE", recorded.Private, a.Private, hsm.ReportedTrue},
	} {
		if row.recorded == row.strong && row.now != row.strong {
			weaker = append(weaker, fmt.Sprintf("%s was %s and is %s", row.name, row.recorded, row.now))
		}
	}
	if recorded.Mechanisms != nil {
		if a.Mechanisms == nil {
			weaker = append(weaker, "CKA_ALLOWED_MECHANISMS is gone")
		}
		for _, m := range a.Mechanisms {
			if !slices.Contains(recorded.Mechanisms, m) {
				weaker = append(weaker, "CKA_ALLOWED_MECHANISMS has "+m)
			}
		}
	}
	return strings.Join(weaker, ", ")
}

// hostReport asks the token about the object of a version. What it says is a report: see
// HostReport.
func (s *Service) hostReport(ctx context.Context, v *versionEntry) *HostReport {
	info := s.token.Info()
	report := &HostReport{
		Module: info.Module, Library: info.Library, Label: info.Label, Serial: info.Serial,
		Manufacturer: info.Manufacturer, Model: info.Model, Firmware: info.Firmware,
	}
	if v.State == StateCreating || v.State == StateDestroyed {
		report.Problem = "a version that is " + v.State.String() + " has no token object"
		return report
	}
	object, err := s.token.Key(ctx, v.UID)
	if err != nil {
		report.Problem = tokenError(err, "look up the key object").Error()
		return report
	}
	report.Attributes, report.Usable = attributesOf(&object), object.Usable
	return report
}
