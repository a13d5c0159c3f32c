package main

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"strings"
)

// parseSubject reads a distinguished name as RFC 4514 writes it: attributes, separated by
// commas, with a backslash before a character that would mean something else. Of what
// that allows, hexadecimal values, attributes joined by + and values that begin or end with
// a space are refused.
func parseSubject(text string) (pkix.Name, error) {
	var name pkix.Name
	if text == "" {
		return name, nil
	}
	parts, err := splitEscaped(text)
	if err != nil {
		return name, err
	}
	for _, part := range parts {
		attribute, value, found := strings.Cut(part, "=")
		if value = strings.TrimSpace(value); !found || value == "" {
			return name, fmt.Errorf("%q is not ATTRIBUTE=VALUE", part)
		}
		if err := setAttribute(&name, strings.ToUpper(strings.TrimSpace(attribute)), value); err != nil {
			return name, err
		}
	}
	return name, nil
}

func setAttribute(name *pkix.Name, attribute, value string) error {
	lists := map[string]*[]string{
		"O": &name.Organization, "OU": &name.OrganizationalUnit, "C": &name.Country, "ST": &name.Province, "L": &name.Locality,
		"STREET": &name.StreetAddress, "POSTALCODE": &name.PostalCode,
	}
	single := map[string]*string{"CN": &name.CommonName, "SERIALNUMBER": &name.SerialNumber}
	if list, ok := lists[attribute]; ok {
		*list = append(*list, value)
		return nil
	}
	field, ok := single[attribute]
	switch {
	case !ok:
		return fmt.Errorf("the attribute %q is none of CN, O, OU, C, ST, L, STREET, POSTALCODE, SERIALNUMBER", attribute)
	case *field != "":
		return fmt.Errorf("%s is there twice", attribute)
	}
	*field = value
	return nil
}

// splitEscaped splits at commas, and takes backslashes away.
func splitEscaped(text string) ([]string, error) {
	var (
		parts   []string
		part    strings.Builder
		escaped bool
	)
	for _, r := range text {
		switch {
		case escaped:
			if !strings.ContainsRune(`,+"\<>;=#`, r) {
				return nil, fmt.Errorf("\\%c is no escape", r)
			}
			part.WriteRune(r)
			escaped = false
		case r == '\\':
			escaped = true
		case r == ',':
			parts = append(parts, part.String())
			part.Reset()
		case strings.ContainsRune(`+"<>;`, r):
			return nil, fmt.Errorf("%c needs a backslash before it", r)
		default:
			part.WriteRune(r)
		}
	}
	if escaped {
		return nil, errors.New("it ends with a backslash")
	}
	return append(parts, part.String()), nil
}
