package kms

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/hsm"
)

// missing says what a token lacks for keys of an algorithm; empty: nothing.
func missing(info *hsm.Info, a Algorithm, p Profile) string {
	row := a.row()
	switch spec := a.KeySpec(p); {
	case !info.Supports(spec):
		return "keys of " + spec.String()
	case row.scheme != 0 && !info.Signs(spec, row.scheme):
		return "signatures of " + row.scheme.String()
	case row.purpose == PurposeAsymmetricDecrypt && !info.Decrypts(row.hash):
		return "RSA-OAEP with " + row.hash.String()
	default:
		return ""
	}
}

// has lists the algorithms of a purpose for which the token lacks nothing.
func has(info *hsm.Info, purpose Purpose) []Algorithm {
	return slices.DeleteFunc(algorithmsOf(purpose), func(a Algorithm) bool {
		if purpose == PurposeEncryptDecrypt {
			return missing(info, a, ProfileDerived) != "" && missing(info, a, ProfileStrict) != ""
		}
		return missing(info, a, 0) != ""
	})
}

// checkCapability refuses keys that this token cannot make or use, before anything is
// made. There is no way round the token: nothing that it lacks is done on the host instead.
func (s *Service) checkCapability(a Algorithm, p Profile) error {
	info := s.token.Info()
	lacks := missing(&info, a, p)
	if lacks == "" {
		return nil
	}
	offer := "it has none of " + a.Purpose().String()
	if offered := has(&info, a.Purpose()); len(offered) > 0 {
		offer = fmt.Sprintf("of %s it has %s", a.Purpose(), someOf(offered))
	}
	what := a.String()
	if p != 0 {
		what += " " + p.String()
		if other := ProfileDerived + ProfileStrict - p; missing(&info, a, other) == "" {
			offer = "it has " + a.String() + " " + other.String()
		}
	}
	return errorf(ErrUnsupported, "the token cannot have keys of %s: it lacks %s; %s", what, lacks, offer).
		with("algorithm", a.String()).with("missing", lacks)
}

// diagnoseAlgorithms tells what keys the token can have.
func diagnoseAlgorithms(info *hsm.Info) []Finding {
	var findings []Finding
	for _, p := range Purposes() {
		offered := has(info, p)
		f := Finding{
			Area: "token", Check: "algorithms of " + p.String(), Severity: SeverityOK, Detail: namesOf(offered),
		}
		if len(offered) == 0 {
			f.Detail = "none: such keys are refused"
		}
		var lacking []string
		for _, a := range algorithmsOf(p) {
			if p != PurposeEncryptDecrypt && missing(info, a, 0) != "" {
				lacking = append(lacking, a.String())
			}
		}
		if len(offered) > 0 && len(lacking) > 0 {
			f.Detail += "; not " + strings.Join(lacking, ", ")
		}
		findings = append(findings, f)
	}
	return findings
}
