package wire

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// pair is one value of an enum, on the wire and in the domain. The zero values of both,
// unspecified and none, belong to each other without a row.
type pair[W, D comparable] struct {
	wire   W
	domain D
}

type enumTable[W interface {
	comparable
	protoreflect.Enum
}, D comparable] []pair[W, D]

var purposes = enumTable[kmsv1.Purpose, kms.Purpose]{
	{kmsv1.Purpose_PURPOSE_ENCRYPT_DECRYPT, kms.PurposeEncryptDecrypt},
}

var algorithms = enumTable[kmsv1.Algorithm, kms.Algorithm]{
	{kmsv1.Algorithm_ALGORITHM_AES_256, kms.AlgorithmAES256},
}

var profiles = enumTable[kmsv1.ProtectionProfile, kms.Profile]{
	{kmsv1.ProtectionProfile_PROTECTION_PROFILE_DERIVED, kms.ProfileDerived},
	{kmsv1.ProtectionProfile_PROTECTION_PROFILE_STRICT, kms.ProfileStrict},
}

var states = enumTable[kmsv1.KeyVersionState, kms.State]{
	{kmsv1.KeyVersionState_KEY_VERSION_STATE_CREATING, kms.StateCreating},
	{kmsv1.KeyVersionState_KEY_VERSION_STATE_ENABLED, kms.StateEnabled},
	{kmsv1.KeyVersionState_KEY_VERSION_STATE_DISABLED, kms.StateDisabled},
	{kmsv1.KeyVersionState_KEY_VERSION_STATE_REVOKED, kms.StateRevoked},
	{kmsv1.KeyVersionState_KEY_VERSION_STATE_REWRAP_ONLY, kms.StateRewrapOnly},
	{kmsv1.KeyVersionState_KEY_VERSION_STATE_DESTROY_SCHEDULED, kms.StateDestroyScheduled},
	{kmsv1.KeyVersionState_KEY_VERSION_STATE_DESTROYED, kms.StateDestroyed},
}

var tokenSwitches = enumTable[kmsv1.TokenSwitch, kms.TokenSwitch]{
	{kmsv1.TokenSwitch_TOKEN_SWITCH_DONE, kms.SwitchDone},
	{kmsv1.TokenSwitch_TOKEN_SWITCH_UNSUPPORTED, kms.SwitchUnsupported},
	{kmsv1.TokenSwitch_TOKEN_SWITCH_FAILED, kms.SwitchFailed},
}

var severities = enumTable[kmsv1.Finding_Severity, kms.Severity]{
	{kmsv1.Finding_SEVERITY_OK, kms.SeverityOK},
	{kmsv1.Finding_SEVERITY_WARNING, kms.SeverityWarning},
	{kmsv1.Finding_SEVERITY_ERROR, kms.SeverityError},
}

var methods = enumTable[kmsv1.WhoAmIResponse_Method, kms.Method]{
	{kmsv1.WhoAmIResponse_METHOD_UNIX, kms.MethodUnix},
	{kmsv1.WhoAmIResponse_METHOD_TLS, kms.MethodTLS},
}

// encode is the value on the wire; unspecified for none.
func (t enumTable[W, D]) encode(domain D) W {
	for _, p := range t {
		if p.domain == domain {
			return p.wire
		}
	}
	var unspecified W
	return unspecified
}

// decode is the value in the domain: none for unspecified, and for a value that this
// side does not know, which it reports.
func (t enumTable[W, D]) decode(wire W) (domain D, known bool) {
	for _, p := range t {
		if p.wire == wire {
			return p.domain, true
		}
	}
	return domain, wire.Number() == 0
}

// lenient is decode for responses: a newer service may have values that are none here.
func (t enumTable[W, D]) lenient(wire W) D {
	domain, _ := t.decode(wire)
	return domain
}

// strict is decode for requests: an unknown value is a violation.
func (t enumTable[W, D]) strict(d *decoder, field string, wire W) D {
	domain, known := t.decode(wire)
	if !known {
		d.refuse(field, "the value %d is not known", wire.Number())
	}
	return domain
}
