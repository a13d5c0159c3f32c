package wire

import (
	"fmt"

	"github.com/keyholt/keyholt/kms"
)

// decoder collects what is wrong with the fields of one request.
type decoder struct{ violations []kms.Violation }

func (d *decoder) refuse(field, format string, args ...any) {
	d.violations = append(d.violations, kms.Violation{Field: field, Description: fmt.Sprintf(format, args...)})
}

// err is nil if every field was as it should be.
func (d *decoder) err() error {
	if len(d.violations) == 0 {
		return nil
	}
	return kms.Invalid(d.violations...)
}

// named parses the name in a field with parse; an empty one is a violation if required,
// else it names nothing.
func named[N any](d *decoder, field, s string, required bool, parse func(string) (N, error)) N {
	var none N
	if s == "" {
		if required {
			d.refuse(field, "is required")
		}
		return none
	}
	name, err := parse(s)
	if err != nil {
		d.refuse(field, "%s", err.Error())
		return none
	}
	return name
}

func (d *decoder) namespace(field, s string) kms.NamespaceName {
	return named(d, field, s, true, kms.ParseNamespaceName)
}

func (d *decoder) key(field, s string) kms.KeyName {
	return named(d, field, s, true, kms.ParseKeyName)
}

func (d *decoder) optionalKey(field, s string) kms.KeyName {
	return named(d, field, s, false, kms.ParseKeyName)
}

// version parses a version's name; it stands in a field of that name in every request.
func (d *decoder) version(s string) kms.VersionName {
	return named(d, "name", s, true, kms.ParseVersionName)
}

// optionalVersion parses the name of a version that stands in the place of a key's; it is
// key_version in every request.
func (d *decoder) optionalVersion(s string) kms.VersionName {
	return named(d, "key_version", s, false, kms.ParseVersionName)
}

// encodeName is the empty string for a name that names nothing.
func encodeName[N interface {
	comparable
	fmt.Stringer
}](name N) string {
	var none N
	if name == none {
		return ""
	}
	return name.String()
}
