package keystore

import (
	"encoding/json"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// attributeObject is what stands in the column of attributes: a JSON object (RFC 8259)
// whose members are in this order. What the token did not report is left out, and so is
// an object's list of mechanisms that it does not have.
type attributeObject struct {
	Local            *bool     `json:"local,omitempty"`
	Sensitive        *bool     `json:"sensitive,omitempty"`
	AlwaysSensitive  *bool     `json:"always_sensitive,omitempty"`
	Extractable      *bool     `json:"extractable,omitempty"`
	NeverExtractable *bool     `json:"never_extractable,omitempty"`
	Modifiable       *bool     `json:"modifiable,omitempty"`
	Copyable         *bool     `json:"copyable,omitempty"`
	Private          *bool     `json:"private,omitempty"`
	KeyGenMechanism  string    `json:"key_gen_mechanism,omitempty"`
	Mechanisms       *[]string `json:"mechanisms,omitempty"`
}

// reports pairs the members with the attributes that they stand for.
func (o *attributeObject) reports(a *kms.ObjectAttributes) []struct {
	member **bool
	report *hsm.Report
} {
	return []struct {
		member **bool
		report *hsm.Report
	}{
		{&o.Local, &a.Local},
		{&o.Sensitive, &a.Sensitive},
		{&o.AlwaysSensitive, &a.AlwaysSensitive},
		{&o.Extractable, &a.Extractable},
		{&o.NeverExtractable, &a.NeverExtractable},
		{&o.Modifiable, &a.Modifiable},
		{&o.Copyable, &a.Copyable},
		{&o.Private, &a.Private},
	}
}

// attributesValue is the value of the column of attributes; empty: there are none.
func attributesValue(a *kms.ObjectAttributes) (string, error) {
	if a.Attributes == (hsm.Attributes{}) && a.Mechanisms == nil {
		return "", nil
	}
	object := attributeObject{KeyGenMechanism: a.KeyGenMechanism}
	for _, r := range object.reports(a) {
		if *r.report != hsm.NotReported {
			value := *r.report == hsm.ReportedTrue
			*r.member = &value
		}
	}
	if a.Mechanisms != nil {
		object.Mechanisms = &a.Mechanisms
	}
	text, err := json.Marshal(&object)
	return string(text), err
}

// attributes reads the attributes of a token object. Most objects have the same: known
// holds those that were read before, by their text, unless it is nil.
func (c *columns) attributes(known map[string]kms.ObjectAttributes) (a kms.ObjectAttributes) {
	text := c.text()
	if c.err != nil || text == "" {
		return a
	}
	if a, ok := known[text]; ok {
		return a
	}
	var object attributeObject
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		c.fail("attributes: %v", err)
		return a
	}
	a.KeyGenMechanism = object.KeyGenMechanism
	for _, r := range object.reports(&a) {
		if *r.member != nil {
			*r.report = hsm.ReportOf(**r.member)
		}
	}
	if object.Mechanisms != nil {
		a.Mechanisms = *object.Mechanisms
	}
	if known != nil {
		known[text] = a
	}
	return a
}
