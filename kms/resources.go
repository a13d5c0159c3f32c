package kms

import (
	"fmt"
	"maps"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// Revision counts the changes of a store: each change has one, in commit order, from 1.
type Revision uint64

// Etag is the entity tag of a resource that was last changed at revision r.
func (r Revision) Etag() string { return fmt.Sprintf("r%d", uint64(r)) }

// Namespace is the unit of tenancy. A value is immutable once stored.
type Namespace struct {
	Name       NamespaceName
	CreateTime time.Time
	CreatedBy  string   // the principal's name
	Revision   Revision // at which it was last changed; 0: not stored yet
}

// Key is a named sequence of key versions. A value is immutable once stored: a
// change makes a new one with Clone.
type Key struct {
	Name           KeyName
	Purpose        Purpose
	Algorithm      Algorithm
	Profile        Profile
	Labels         map[string]string
	RotationPeriod time.Duration // 0: rotated by hand only
	Primary        uint32        // number of the primary version; 0 while version 1 is CREATING
	CreateTime     time.Time
	CreatedBy      string   // the principal's name
	Revision       Revision // at which it was last changed; 0: not stored yet
}

// Clone returns a copy that shares nothing with k.
func (k *Key) Clone() *Key {
	c := *k
	c.Labels = maps.Clone(k.Labels)
	return &c
}

// Version is one key in the token. A value is immutable once stored: a change makes
// a new one by copying the struct.
type Version struct {
	Name       VersionName
	UID        hsm.UID // CKA_ID of the token object; stands in each ciphertext
	State      State
	CreateTime time.Time

	// The last change of state: when, by which principal, and the reason given.
	StateTime      time.Time
	StatePrincipal string
	StateReason    string

	// DestroyTime is when the object of a version that is DESTROY_SCHEDULED is to be
	// destroyed, or, of one that is DESTROYED, when it was; else zero.
	DestroyTime time.Time
	// RestoreTo is the state that a DESTROY_SCHEDULED version is restored to; else zero.
	RestoreTo State

	// Epoch is that of the store (Origin) when the version was made; 0: nothing was
	// ever restored.
	Epoch uint32

	// FirstUse is when the version first protected something; zero: never.
	FirstUse time.Time

	// Check tells whether the token object with this UID is the one that was made
	// for the version (see checkvalue.go); of a key pair it is the public key, DER of a
	// PKIX SubjectPublicKeyInfo (RFC 5280). Empty while CREATING.
	Check []byte

	// Attributes are those of the token object when it was made, as the token reported
	// them. Zero while CREATING.
	Attributes ObjectAttributes
	// Imported tells that the key was made elsewhere and brought in.
	Imported bool

	// RequestID and RequestDigest are those of the call that made the version: a
	// call repeated with the same id makes nothing. Empty: the caller gave none.
	RequestID     string
	RequestDigest []byte

	Revision Revision // at which it was last changed; 0: not stored yet
}

// ObjectAttributes are what a token reports of how a key object came to be and is kept.
type ObjectAttributes struct {
	hsm.Attributes
	// Mechanisms are the names of CKA_ALLOWED_MECHANISMS, sorted; nil: the object has no
	// such list, and allows what its usage attributes do.
	Mechanisms []string
}

// Profile is the protection profile of an ENCRYPT_DECRYPT key: what part of the work
// the token does itself.
type Profile uint8

// The protection profiles. The zero value is none of them.
const (
	// ProfileDerived: the token derives one key per item, a whole batch in one
	// operation; the host runs AES-256-GCM with it (XAES-256-GCM, C2SP).
	ProfileDerived Profile = 1
	// ProfileStrict: each item's AES-256-GCM runs inside the token.
	ProfileStrict Profile = 2
)

// String returns the profile's name, as DERIVED.
func (p Profile) String() string {
	switch p {
	case ProfileDerived:
		return "DERIVED"
	case ProfileStrict:
		return "STRICT"
	default:
		return "PROTECTION_PROFILE_UNSPECIFIED"
	}
}

// keySpec is what token object a version of a key with this profile is.
func (p Profile) keySpec() hsm.KeySpec {
	if p == ProfileStrict {
		return hsm.AES256GCM
	}
	return hsm.AES256Blocks
}
