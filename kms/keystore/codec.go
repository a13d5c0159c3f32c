package keystore

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Enumerations stand in the database by name. The names that a store knows:
var (
	purposes   = kms.Purposes()
	algorithms = kms.Algorithms()
	profiles   = []kms.Profile{kms.ProfileDerived, kms.ProfileStrict}
	states     = []kms.State{
		kms.StateCreating, kms.StateEnabled, kms.StateRewrapOnly, kms.StateDisabled, kms.StateRevoked,
		kms.StateDestroyScheduled, kms.StateDestroyed,
	}
	importMethods   = kms.ImportMethods()
	importJobStates = []kms.ImportJobState{kms.ImportJobCreating, kms.ImportJobActive, kms.ImportJobExpired}
)

// columns reads the values of a row one after another. After the first that is not
// what it should be, err says so and all further values are zero.
type columns struct {
	values []any
	err    error
}

// next takes the next value.
func next[T any](c *columns) (value T) {
	if c.err != nil {
		return value
	}
	if len(c.values) == 0 {
		c.err = fmt.Errorf("a column is missing")
		return value
	}
	value, ok := c.values[0].(T)
	if !ok {
		c.err = fmt.Errorf("a column holds a value of type %T instead of %T", c.values[0], value)
		return value
	}
	c.values = c.values[1:]
	return value
}

func (c *columns) text() string            { return next[string](c) }
func (c *columns) integer() int64          { return next[int64](c) }
func (c *columns) duration() time.Duration { return time.Duration(c.integer()) }

// bytes returns nil for a column of no bytes.
func (c *columns) bytes() []byte {
	b := next[[]byte](c)
	if len(b) == 0 {
		return nil
	}
	return b
}

// number reads a number from 0 to 2^31-1.
func (c *columns) number() uint32 {
	n := c.integer()
	if n < 0 || n >= 1<<31 {
		c.fail("a number is %d", n)
		return 0
	}
	return uint32(n)
}

// count reads a number from 0 to 2^32-1.
func (c *columns) count() uint32 {
	n := c.integer()
	if n < 0 || n > math.MaxUint32 {
		c.fail("a number is %d", n)
		return 0
	}
	return uint32(n)
}

// optionalState reads a state that may be NULL, which is none.
func (c *columns) optionalState() kms.State {
	if c.err == nil && len(c.values) > 0 && c.values[0] == nil {
		c.values = c.values[1:]
		return 0
	}
	return enum(c, states)
}

// time reads a time that may be NULL, which is the zero time.
func (c *columns) time() time.Time {
	if c.err == nil && len(c.values) > 0 && c.values[0] == nil {
		c.values = c.values[1:]
		return time.Time{}
	}
	return time.UnixMicro(c.integer()).UTC()
}

// optionalProfile reads a protection profile that may be empty, which is none.
func (c *columns) optionalProfile() kms.Profile {
	if c.err == nil && len(c.values) > 0 && c.values[0] == "" {
		c.values = c.values[1:]
		return 0
	}
	return enum(c, profiles)
}

func (c *columns) bool() bool {
	n := c.integer()
	if n != 0 && n != 1 {
		c.fail("a truth value is %d", n)
	}
	return n == 1
}

func (c *columns) labels() map[string]string {
	text := c.text()
	if c.err != nil || text == "{}" {
		return nil
	}
	var labels map[string]string
	if err := json.Unmarshal([]byte(text), &labels); err != nil {
		c.fail("labels: %v", err)
	}
	return labels
}

func (c *columns) uid() (uid hsm.UID) {
	text := c.text()
	if c.err != nil {
		return uid
	}
	uid, err := parseUID(text)
	if err != nil {
		c.fail("%v", err)
	}
	return uid
}

// enum reads the name of one of the values.
func enum[T fmt.Stringer](c *columns, values []T) (value T) {
	name := c.text()
	if c.err != nil {
		return value
	}
	for _, v := range values {
		if v.String() == name {
			return v
		}
	}
	c.fail("%q is no name of a %T", clip(name), value)
	return value
}

func (c *columns) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

// parseUID is the inverse of hsm.UID.String.
func parseUID(text string) (uid hsm.UID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(uid) {
		return uid, fmt.Errorf("%q is no UID", clip(text))
	}
	copy(uid[:], b)
	if uid.String() != text {
		return hsm.UID{}, fmt.Errorf("%q is no UID", clip(text))
	}
	return uid, nil
}

// timeValue is the value of a time's column: microseconds since 1970 UTC, NULL for the zero time.
func timeValue(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

// stateValue is the value of a column for a state that there may be none of.
func stateValue(s kms.State) any {
	if s == 0 {
		return nil
	}
	return s.String()
}

// bytesValue is the value of a column of bytes, which is never NULL.
func bytesValue(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// profileValue is the value of a column for a profile that there may be none of.
func profileValue(p kms.Profile) string {
	if p == 0 {
		return ""
	}
	return p.String()
}

func boolValue(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// labelsValue is the value of the column of labels: a JSON object (RFC 8259) with its
// names in order of their bytes.
func labelsValue(labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return "{}", nil
	}
	text, err := json.Marshal(labels)
	return string(text), err
}
