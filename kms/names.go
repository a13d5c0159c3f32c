package kms

import (
	"fmt"
	"strconv"
	"strings"
)

// NamespaceName is the parsed name of a namespace. The zero value names nothing.
type NamespaceName struct{ id string }

// KeyName is the parsed name of a key. The zero value names nothing.
type KeyName struct {
	namespace NamespaceName
	id        string
}

// VersionName is the parsed name of a key version. The zero value names nothing.
type VersionName struct {
	key    KeyName
	number uint32
}

// DefaultNamespace is the namespace that exists from the first start.
const DefaultNamespace = "default"

// maxIDLength is the longest last segment of a namespace's or key's name, in bytes.
const maxIDLength = 63

// NewNamespaceName makes a name from its last segment, which must match
// [a-z0-9][a-z0-9._-]{0,62}.
func NewNamespaceName(id string) (NamespaceName, error) {
	if err := checkID(id); err != nil {
		return NamespaceName{}, err
	}
	return NamespaceName{id}, nil
}

// NewKeyName makes the name of a key from its last segment, which must match
// [a-z0-9][a-z0-9._-]{0,62}.
func NewKeyName(namespace NamespaceName, id string) (KeyName, error) {
	if namespace.IsZero() {
		return KeyName{}, fmt.Errorf("a key name needs a namespace")
	}
	if err := checkID(id); err != nil {
		return KeyName{}, err
	}
	return KeyName{namespace, id}, nil
}

// ParseNamespaceName parses namespaces/{namespace}.
func ParseNamespaceName(s string) (NamespaceName, error) {
	segments := strings.Split(s, "/")
	if len(segments) != 2 || segments[0] != "namespaces" {
		return NamespaceName{}, malformedName(s, "namespaces/{namespace}")
	}
	return NewNamespaceName(segments[1])
}

// ParseKeyName parses namespaces/{namespace}/keys/{key}.
func ParseKeyName(s string) (KeyName, error) {
	rest, isNamespace := strings.CutPrefix(s, "namespaces/")
	namespaceID, rest, _ := strings.Cut(rest, "/")
	id, isKey := strings.CutPrefix(rest, "keys/")
	if !isNamespace || !isKey || strings.Contains(id, "/") {
		return KeyName{}, malformedName(s, "namespaces/{namespace}/keys/{key}")
	}
	namespace, err := NewNamespaceName(namespaceID)
	if err != nil {
		return KeyName{}, err
	}
	return NewKeyName(namespace, id)
}

// ParseVersionName parses namespaces/{namespace}/keys/{key}/versions/{version}; the
// version is a decimal number from 1 to 2^31-1 without sign or leading zeros.
func ParseVersionName(s string) (VersionName, error) {
	at := strings.LastIndex(s, "/versions/")
	if at < 0 {
		return VersionName{}, malformedName(s, "namespaces/{namespace}/keys/{key}/versions/{version}")
	}
	key, err := ParseKeyName(s[:at])
	if err != nil {
		return VersionName{}, err
	}
	digits := s[at+len("/versions/"):]
	number, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || number == 0 || digits != strconv.FormatUint(number, 10) {
		return VersionName{}, fmt.Errorf("version %q is not a number from 1 without leading zeros", clip(digits))
	}
	return key.Version(uint32(number)), nil
}

// Version names the n-th version of the key; n is at least 1.
func (k KeyName) Version(n uint32) VersionName { return VersionName{k, n} }

// ID is the last segment of the name.
func (n NamespaceName) ID() string { return n.id }

// IsZero reports whether n names nothing.
func (n NamespaceName) IsZero() bool { return n.id == "" }

// String is the resource name.
func (n NamespaceName) String() string { return "namespaces/" + n.id }

// Namespace is the name of the namespace that the key belongs to.
func (k KeyName) Namespace() NamespaceName { return k.namespace }

// ID is the last segment of the name.
func (k KeyName) ID() string { return k.id }

// IsZero reports whether k names nothing.
func (k KeyName) IsZero() bool { return k.id == "" }

// String is the resource name.
func (k KeyName) String() string { return "namespaces/" + k.namespace.id + "/keys/" + k.id }

// Key is the name of the key that the version belongs to.
func (v VersionName) Key() KeyName { return v.key }

// Number is the version's number, from 1.
func (v VersionName) Number() uint32 { return v.number }

// IsZero reports whether v names nothing.
func (v VersionName) IsZero() bool { return v.number == 0 }

// String is the resource name.
func (v VersionName) String() string {
	return "namespaces/" + v.key.namespace.id + "/keys/" + v.key.id + "/versions/" + strconv.FormatUint(uint64(v.number), 10)
}

func checkID(id string) error {
	if id == "" {
		return fmt.Errorf("the name is empty")
	}
	if len(id) > maxIDLength {
		return fmt.Errorf("the name %q... is longer than %d characters", id[:16], maxIDLength)
	}
	for i := range len(id) {
		c := id[i]
		alphanumeric := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-') {
			return fmt.Errorf("the name %q does not match [a-z0-9][a-z0-9._-]{0,62}", id)
		}
	}
	return nil
}

func malformedName(s, form string) error {
	return fmt.Errorf("%q is not of the form %s", clip(s), form)
}

// clip keeps hostile input from filling logs and error messages.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
