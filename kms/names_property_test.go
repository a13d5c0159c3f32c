package kms_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyholt/keyholt/kms"
)

// parseKeyNameBySegments is what a key's name is, said as plainly as possible.
func parseKeyNameBySegments(s string) (kms.KeyName, bool) {
	segments := strings.Split(s, "/")
	if len(segments) != 4 || segments[0] != "namespaces" || segments[2] != "keys" {
		return kms.KeyName{}, false
	}
	namespace, err := kms.NewNamespaceName(segments[1])
	if err != nil {
		return kms.KeyName{}, false
	}
	key, err := kms.NewKeyName(namespace, segments[3])
	return key, err == nil
}

// Names are accepted if and only if they are the segments that they should be, and are
// written as they were read.
func TestKeyNamesAreTheirSegments(t *testing.T) {
	t.Parallel()
	segment := rapid.OneOf(
		rapid.SampledFrom([]string{
			"namespaces", "keys", "versions", "", "default", "orders", "namespacesdefault", "keysorders", "Keys", "-", ".", "1",
			strings.Repeat("a", 63), strings.Repeat("a", 64), "ä", "\x00",
		}),
		rapid.StringMatching(`[a-z0-9._/-]{0,8}`),
	)
	likely := rapid.Custom(func(t *rapid.T) string {
		s := "namespaces/" + segment.Draw(t, "namespace") + "/keys/" + segment.Draw(t, "key")
		at := rapid.IntRange(0, len(s)).Draw(t, "at") // a change somewhere, or none
		return s[:at] + rapid.SampledFrom([]string{"", "", "", "/", "keys/", "/keys/", "a"}).Draw(t, "insert") + s[at:]
	})
	unlikely := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(segment, 0, 6).Draw(t, "segments"), "/")
	})
	accepted := 0
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(likely, unlikely).Draw(t, "name")
		want, good := parseKeyNameBySegments(s)
		got, err := kms.ParseKeyName(s)
		if (err == nil) != good || got != want {
			t.Fatalf("%q is %q, %v; want %q, %v", s, got, err, want, good)
		}
		if !good {
			return
		}
		accepted++
		if got.String() != s || got.Version(7).String() != s+"/versions/7" {
			t.Fatalf("%q is written %q and %q", s, got, got.Version(7))
		}
	})
	if accepted == 0 {
		t.Error("no name was good")
	}
}
