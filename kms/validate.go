package kms

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/kms/envelope"
)

// The checks of request fields. Each returns nil, or an *Error that names the field in
// the words of the API.

func required(field string, missing bool) error {
	if missing {
		return Invalid(Violation{field, "is required"})
	}
	return nil
}

func checkCount(field string, n int) error {
	switch {
	case n > MaxItems:
		return tooMuch(field, "%d is more than %d", n, MaxItems)
	case n < 1:
		return Invalid(Violation{field, "at least one is required"})
	}
	return nil
}

func checkDataKeySize(field string, n int) error {
	if n < envelope.DataKeySizeMin || n > envelope.DataKeySizeMax {
		return Invalid(Violation{field, fmt.Sprintf("a data key has %d to %d bytes, not %d",
			envelope.DataKeySizeMin, envelope.DataKeySizeMax, n)})
	}
	return nil
}

func checkPlaintext(p Secret) error {
	if len(p) > envelope.MaxPlaintextSize {
		return tooMuch("plaintext", "%d bytes are more than %d: generate a data key and encrypt locally",
			len(p), envelope.MaxPlaintextSize)
	}
	return nil
}

func checkBatchPlaintext(total int) error {
	if total > MaxBatchPlaintext {
		return tooMuch("items", "%d bytes of plaintext together are more than %d", total, MaxBatchPlaintext)
	}
	return nil
}

func checkRandomSize(n int) error {
	switch {
	case n > MaxRandom:
		return tooMuch("size", "%d is more than %d", n, MaxRandom)
	case n < 1:
		return Invalid(Violation{"size", "at least 1 is required"})
	}
	return nil
}

func checkReason(reason string, mandatory bool) error {
	switch {
	case mandatory && strings.TrimSpace(reason) == "":
		return Invalid(Violation{"reason", "is required"})
	case len(reason) > MaxReason:
		return tooMuch("reason", "%d bytes are more than %d", len(reason), MaxReason)
	case !utf8.ValidString(reason):
		return Invalid(Violation{"reason", "is not valid UTF-8"})
	}
	return nil
}

func checkRequestID(id string) error {
	if id == "" {
		return nil
	}
	if parsed, err := uuid.Parse(id); err != nil || parsed == uuid.Nil || len(id) != 36 {
		return Invalid(Violation{"request_id", "is not a UUID in its 36-character form"})
	}
	return nil
}

func checkRotationPeriod(field string, d time.Duration) error {
	if d != 0 && d < MinRotationPeriod {
		return Invalid(Violation{field, fmt.Sprintf("%v is shorter than %v", d, MinRotationPeriod)})
	}
	return nil
}

func checkLabels(field string, labels map[string]string) error {
	if len(labels) > MaxLabels {
		return tooMuch(field, "%d are more than %d", len(labels), MaxLabels)
	}
	for key, value := range labels {
		if !isLabelKey(key) {
			return Invalid(Violation{field, fmt.Sprintf("the key %q does not match [a-z][a-z0-9_.-]{0,62}", clip(key))})
		}
		if !isLabelValue(value) {
			return Invalid(Violation{field, fmt.Sprintf("the value %q of %s does not match [A-Za-z0-9_.-]{0,63}", clip(value), key)})
		}
	}
	return nil
}

func isLabelKey(s string) bool {
	return s != "" && 'a' <= s[0] && s[0] <= 'z' && len(s) <= maxIDLength && s == strings.ToLower(s) && isLabelValue(s)
}

func isLabelValue(s string) bool {
	if len(s) > maxIDLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alphanumeric := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alphanumeric && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
