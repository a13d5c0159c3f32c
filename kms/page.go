package kms

import (
	"encoding/base64"
	"strings"
)

// A page token is the base64url form of the list's name and of the first entry of the
// page, with 0 between: lists continue correctly however entries come and go.

func pageToken(list, first string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + first))
}

// parse returns where the page begins and how many entries it has. A token of another
// list is refused.
func (p Page) parse(list string) (from string, size int, err error) {
	switch {
	case p.Size < 0:
		return "", 0, Invalid(Violation{"page_size", "is negative"})
	case p.Size == 0:
		size = DefaultPageSize
	default:
		size = min(p.Size, MaxPageSize)
	}
	if p.Token == "" {
		return "", size, nil
	}
	decoded, decodeErr := base64.RawURLEncoding.DecodeString(p.Token)
	from, isOurs := strings.CutPrefix(string(decoded), list+"\x00")
	if decodeErr != nil || !isOurs {
		return "", 0, Invalid(Violation{"page_token", "is not a token of this list"})
	}
	return from, size, nil
}
