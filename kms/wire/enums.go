package wire

import (
	"crypto"

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
	~int32
	protoreflect.Enum
}, D comparable] []pair[W, D]

var purposes = enumTable[kmsv1.Purpose, kms.Purpose]{
	{kmsv1.Purpose_PURPOSE_ENCRYPT_DECRYPT, kms.PurposeEncryptDecrypt},
	{kmsv1.Purpose_PURPOSE_ASYMMETRIC_SIGN, kms.PurposeAsymmetricSign},
	{kmsv1.Purpose_PURPOSE_ASYMMETRIC_DECRYPT, kms.PurposeAsymmetricDecrypt},
	{kmsv1.Purpose_PURPOSE_MAC, kms.PurposeMAC},
}

var algorithms = enumTable[kmsv1.Algorithm, kms.Algorithm]{
	{kmsv1.Algorithm_ALGORITHM_AES_256, kms.AlgorithmAES256},
	{kmsv1.Algorithm_ALGORITHM_EC_SIGN_P256_SHA256, kms.AlgorithmECP256SHA256},
	{kmsv1.Algorithm_ALGORITHM_EC_SIGN_P384_SHA384, kms.AlgorithmECP384SHA384},
	{kmsv1.Algorithm_ALGORITHM_EC_SIGN_P521_SHA512, kms.AlgorithmECP521SHA512},
	{kmsv1.Algorithm_ALGORITHM_EC_SIGN_ED25519, kms.AlgorithmEd25519},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_2048_SHA256, kms.AlgorithmRSA2048PKCS1SHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_2048_SHA384, kms.AlgorithmRSA2048PKCS1SHA384},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_2048_SHA512, kms.AlgorithmRSA2048PKCS1SHA512},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_3072_SHA256, kms.AlgorithmRSA3072PKCS1SHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_3072_SHA384, kms.AlgorithmRSA3072PKCS1SHA384},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_3072_SHA512, kms.AlgorithmRSA3072PKCS1SHA512},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_4096_SHA256, kms.AlgorithmRSA4096PKCS1SHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_4096_SHA384, kms.AlgorithmRSA4096PKCS1SHA384},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PKCS1_4096_SHA512, kms.AlgorithmRSA4096PKCS1SHA512},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_2048_SHA256, kms.AlgorithmRSA2048PSSSHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_2048_SHA384, kms.AlgorithmRSA2048PSSSHA384},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_2048_SHA512, kms.AlgorithmRSA2048PSSSHA512},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_3072_SHA256, kms.AlgorithmRSA3072PSSSHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_3072_SHA384, kms.AlgorithmRSA3072PSSSHA384},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_3072_SHA512, kms.AlgorithmRSA3072PSSSHA512},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_4096_SHA256, kms.AlgorithmRSA4096PSSSHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_4096_SHA384, kms.AlgorithmRSA4096PSSSHA384},
	{kmsv1.Algorithm_ALGORITHM_RSA_SIGN_PSS_4096_SHA512, kms.AlgorithmRSA4096PSSSHA512},
	{kmsv1.Algorithm_ALGORITHM_RSA_DECRYPT_OAEP_2048_SHA256, kms.AlgorithmRSA2048OAEPSHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_DECRYPT_OAEP_2048_SHA1, kms.AlgorithmRSA2048OAEPSHA1},
	{kmsv1.Algorithm_ALGORITHM_RSA_DECRYPT_OAEP_3072_SHA256, kms.AlgorithmRSA3072OAEPSHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_DECRYPT_OAEP_3072_SHA1, kms.AlgorithmRSA3072OAEPSHA1},
	{kmsv1.Algorithm_ALGORITHM_RSA_DECRYPT_OAEP_4096_SHA256, kms.AlgorithmRSA4096OAEPSHA256},
	{kmsv1.Algorithm_ALGORITHM_RSA_DECRYPT_OAEP_4096_SHA1, kms.AlgorithmRSA4096OAEPSHA1},
	{kmsv1.Algorithm_ALGORITHM_HMAC_SHA256, kms.AlgorithmHMACSHA256},
	{kmsv1.Algorithm_ALGORITHM_HMAC_SHA384, kms.AlgorithmHMACSHA384},
	{kmsv1.Algorithm_ALGORITHM_HMAC_SHA512, kms.AlgorithmHMACSHA512},
}

var signatureFormats = enumTable[kmsv1.SignatureFormat, kms.SignatureFormat]{
	{kmsv1.SignatureFormat_SIGNATURE_FORMAT_DER, kms.SignatureDER},
	{kmsv1.SignatureFormat_SIGNATURE_FORMAT_RAW, kms.SignatureRaw},
}

var publicKeyFormats = enumTable[kmsv1.PublicKeyFormat, kms.PublicKeyFormat]{
	{kmsv1.PublicKeyFormat_PUBLIC_KEY_FORMAT_PEM, kms.PublicKeyPEM},
	{kmsv1.PublicKeyFormat_PUBLIC_KEY_FORMAT_DER, kms.PublicKeyDER},
	{kmsv1.PublicKeyFormat_PUBLIC_KEY_FORMAT_JWK, kms.PublicKeyJWK},
}

var hashes = enumTable[kmsv1.HashAlgorithm, crypto.Hash]{
	{kmsv1.HashAlgorithm_HASH_ALGORITHM_SHA256, crypto.SHA256},
	{kmsv1.HashAlgorithm_HASH_ALGORITHM_SHA384, crypto.SHA384},
	{kmsv1.HashAlgorithm_HASH_ALGORITHM_SHA512, crypto.SHA512},
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

// encodeRequested is encode for requests. What has no value on the wire becomes one that
// every service refuses: to leave it out would be to ask for the default instead.
func (t enumTable[W, D]) encodeRequested(domain D) W {
	m := t.encode(domain)
	var none D
	if m.Number() == 0 && domain != none {
		return W(-1)
	}
	return m
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
