package kms

import (
	"context"
	"fmt"
)

// Diagnose examines token, store and keys for an operator.
func (s *Service) Diagnose(ctx context.Context, p Principal) ([]Finding, error) {
	var findings []Finding
	err := s.perform(ctx, &controlCall{
		principal: p, action: ActionDiagnose, whenLapsed: true,
		work: func(ctx context.Context) error {
			findings = append(s.diagnoseToken(ctx), s.selfTest...)
			findings = append(findings, s.store.Diagnose(ctx)...)
			findings = append(findings, s.diagnoseAnchors(ctx))
			findings = append(findings, s.replica.findings(ctx)...)
			findings = append(findings, s.startup...)
			findings = append(findings, s.diagnoseKeys()...)
			findings = append(findings, s.diagnoseTimes())
			return nil
		},
	})
	return findings, err
}

func (s *Service) diagnoseToken(ctx context.Context) []Finding {
	info := s.token.Info()
	findings := []Finding{{
		Area: "token", Check: "identity", Severity: SeverityOK,
		Detail: fmt.Sprintf("label %q, serial %s, %s %s, firmware %s; module %s (%s, Cryptoki %s)",
			info.Label, info.Serial, info.Manufacturer, info.Model, info.Firmware, info.Module, info.Library, info.CryptokiVer),
	}}
	presence := Finding{Area: "token", Check: "presence", Severity: SeverityOK, Detail: "present and logged in"}
	if err := s.token.Check(ctx); err != nil {
		presence.Severity, presence.Detail = SeverityError, "the token does not answer: "+err.Error()
		presence.Remedy = "see that the token is connected and its service runs"
	}
	findings = append(findings, presence, Finding{
		Area: "token", Check: "capacity", Severity: SeverityOK,
		Detail: fmt.Sprintf("%s, at most %d bytes of blocks a call", Counted(info.Sessions, "session"), info.MaxBlockBytes),
	})
	findings = append(findings, diagnoseAlgorithms(&info)...)
	findings = append(findings, diagnoseImports(&info))
	for _, l := range info.Limitations {
		findings = append(findings, Finding{Area: "token", Check: l.Name, Severity: SeverityWarning, Detail: l.Detail})
	}
	return findings
}

// maxNamed is how many unavailable versions Diagnose names: a token that was exchanged
// leaves not one that is right.
const maxNamed = 20

// diagnoseKeys names the versions that are unavailable now, whether that was found at the
// start, after a restoration or at a use.
func (s *Service) diagnoseKeys() []Finding {
	now := s.snapshot.Load()
	var named []Finding
	unavailable := 0
	now.versions.Scan(func(_ string, v *versionEntry) bool {
		why := v.live.whyUnavailable()
		if why == "" {
			return true
		}
		unavailable++
		if len(named) < maxNamed {
			named = append(named, Finding{
				Area: "keys", Check: v.Name.String(), Severity: SeverityError,
				Detail: "the version is unavailable: " + why, Remedy: "restore the token from its backup, or revoke the version",
			})
		}
		return true
	})
	summary := Finding{
		Area: "keys", Check: "versions", Severity: SeverityOK,
		Detail: fmt.Sprintf("%s with %s at revision %d", Counted(now.keys.Len(), "key"), Counted(now.versions.Len(), "version"), now.Revision()),
	}
	if unavailable > 0 {
		summary.Severity = SeverityError
		summary.Detail += "; unavailable: " + Counted(unavailable, "version")
		summary.Remedy = "see what is said of each"
		if unavailable > len(named) {
			summary.Remedy = fmt.Sprintf("%d are named here, and all in the log", len(named))
		}
	}
	return append(named, summary)
}

// diagnoseTimes tells of versions that were made by a clock that was ahead, or are looked at by
// one that is behind. Their age counts from then, and so does the period of rotation.
func (s *Service) diagnoseTimes() Finding {
	f := Finding{Area: "keys", Check: "times", Severity: SeverityOK, Detail: "no version was made in the future"}
	latest, ahead := s.now().Add(clocksApart), 0
	example := ""
	s.snapshot.Load().versions.Scan(func(_ string, v *versionEntry) bool {
		if v.CreateTime.After(latest) {
			ahead++
			example = v.Name.String()
		}
		return true
	})
	if ahead > 0 {
		f.Severity = SeverityWarning
		f.Detail = fmt.Sprintf("made in the future by the clock here: %s, such as %s; a clock is wrong, or was", Counted(ahead, "version"), example)
		f.Remedy = "set the clock; rotate such keys by hand, because their periods count from then"
	}
	return f
}

// Counted is a number of things, as messages have it: "1 key", "2 keys".
func Counted[N int | int64 | uint64](n N, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
