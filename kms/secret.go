package kms

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is bytes that must not be seen: plaintexts and data keys. However it is
// printed, encoded or logged, it shows as [redacted].
type Secret []byte

// Wipe overwrites the bytes with zeros.
func (s Secret) Wipe() { clear(s) }

// Format prints a placeholder for every verb, %x and %d among them.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText returns a placeholder; encoding/json uses it too.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns a placeholder.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
