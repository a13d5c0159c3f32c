package wire

import (
	"fmt"

	"github.com/keyholt/keyholt/kms"
)

// namedItemEncoder writes the names of items that may name a key or a version. As most
// items have the name of the one before, nothing is allocated for those.
type namedItemEncoder struct {
	key         kms.KeyName
	keyText     string
	version     kms.VersionName
	versionText string
}

func (e *namedItemEncoder) names(key kms.KeyName, version kms.VersionName) (keyText, versionText string) {
	if key != e.key {
		e.key, e.keyText = key, encodeName(key)
	}
	if version != e.version {
		e.version, e.versionText = version, encodeName(version)
	}
	return e.keyText, e.versionText
}

// namedItemDecoder reads them.
type namedItemDecoder struct {
	keyText     string
	key         kms.KeyName
	versionText string
	version     kms.VersionName
}

// names parses the names of item i. The error is for the item's Invalid.
func (d *namedItemDecoder) names(i int, keyText, versionText string) (key kms.KeyName, version kms.VersionName, err error) {
	if keyText != "" && keyText != d.keyText {
		if key, err = kms.ParseKeyName(keyText); err != nil {
			return key, version, itemError(i, "key", err.Error())
		}
		d.keyText, d.key = keyText, key
	}
	if versionText != "" && versionText != d.versionText {
		if version, err = kms.ParseVersionName(versionText); err != nil {
			return key, version, itemError(i, "key_version", err.Error())
		}
		d.versionText, d.version = versionText, version
	}
	if keyText != "" {
		key = d.key
	}
	if versionText != "" {
		version = d.version
	}
	return key, version, nil
}

func itemError(i int, field, description string) error {
	return kms.Invalid(kms.Violation{Field: fmt.Sprintf("items[%d].%s", i, field), Description: description})
}

// unknownItemValue is the error of an item with an enum value that is not known.
func unknownItemValue(i int, field string, value int32) error {
	return itemError(i, field, fmt.Sprintf("the value %d is not known", value))
}
