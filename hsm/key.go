package hsm

import (
	"encoding/hex"
)

// UID names a key: 16 random bytes, the CKA_ID of its object, or of both objects of a pair.
type UID [16]byte

// String returns the UID as 32 lower-case hexadecimal digits.
func (u UID) String() string { return hex.EncodeToString(u[:]) }

// Object is what the token itself says of one key: of its secret-key object, or of the
// private-key object of a pair. A host that is compromised can say anything: these are
// reports, not proofs.
type Object struct {
	UID   UID
	Label string
	// Spec is zero for an object that was not made to one of our specifications, for what
	// is left of a pair whose private key is gone, and for several objects of one UID that
	// are no pair.
	Spec KeySpec
	// Usable tells that the usage attributes of the specification are on.
	Usable bool

	Sensitive        bool // CKA_SENSITIVE
	Extractable      bool // CKA_EXTRACTABLE
	AlwaysSensitive  bool // CKA_ALWAYS_SENSITIVE
	NeverExtractable bool // CKA_NEVER_EXTRACTABLE
	Local            bool // CKA_LOCAL; some modules never set it
	Modifiable       bool // CKA_MODIFIABLE
	Copyable         bool // CKA_COPYABLE; true where the module ignores the attribute
	// Mechanisms are the names of CKA_ALLOWED_MECHANISMS; nil where the object
	// has no such list and so allows every mechanism that its usage permits.
	Mechanisms []string
	// Attributes are the same reports, with the difference between what the token denies
	// and what it does not say.
	Attributes Attributes
}

// Attributes are what a token reports of where a key comes from and how it is kept.
type Attributes struct {
	Local            Report // CKA_LOCAL: made inside the token; false of what was imported
	Sensitive        Report // CKA_SENSITIVE
	AlwaysSensitive  Report // CKA_ALWAYS_SENSITIVE
	Extractable      Report // CKA_EXTRACTABLE
	NeverExtractable Report // CKA_NEVER_EXTRACTABLE
	Modifiable       Report // CKA_MODIFIABLE
	Copyable         Report // CKA_COPYABLE
	Private          Report // CKA_PRIVATE: invisible without a login
	// KeyGenMechanism is the name of CKA_KEY_GEN_MECHANISM; empty where the token reports
	// none, as of keys that were imported.
	KeyGenMechanism string
}

// Report is what a token says of one Boolean attribute.
type Report uint8

// The reports. The zero value: the token does not say.
const (
	NotReported   Report = 0
	ReportedTrue  Report = 1
	ReportedFalse Report = 2
)

// ReportOf is the report of a token that says value.
func ReportOf(value bool) Report {
	if value {
		return ReportedTrue
	}
	return ReportedFalse
}

// String returns "true", "false" or "not reported".
func (r Report) String() string {
	switch r {
	case ReportedTrue:
		return "true"
	case ReportedFalse:
		return "false"
	default:
		return "not reported"
	}
}
