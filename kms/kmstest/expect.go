package kmstest

import (
	"errors"
	"slices"
	"testing"

	"github.com/keyholt/keyholt/kms"
)

// wantError fails the test unless err is a domain error of that sentinel.
func wantError(t testing.TB, err, sentinel error, doing string) {
	t.Helper()
	_ = wantRefusal(t, err, sentinel, doing)
}

// wantRefusal is wantError and returns the error for a closer look.
func wantRefusal(t testing.TB, err, sentinel error, doing string) *kms.Error {
	t.Helper()
	var e *kms.Error
	switch {
	case err == nil:
		t.Fatalf("%s: succeeded, want error %q", doing, sentinel)
	case !errors.Is(err, sentinel):
		t.Fatalf("%s: error %v, want %q", doing, err, sentinel)
	case !errors.As(err, &e):
		t.Fatalf("%s: error %v is no *kms.Error", doing, err)
	}
	return e
}

// wantViolation fails the test unless err names the field as malformed.
func wantViolation(t testing.TB, err error, field, doing string) {
	t.Helper()
	e := wantRefusal(t, err, kms.ErrInvalidRequest, doing)
	named := func(v kms.Violation) bool { return v.Field == field }
	if !slices.ContainsFunc(e.Violations, named) {
		t.Fatalf("%s: violations %v, want one of %q", doing, e.Violations, field)
	}
}

// wantMetadata fails the test unless the error carries a detail.
func wantMetadata(t testing.TB, e *kms.Error, key, value string) {
	t.Helper()
	if got, ok := e.Metadata[key]; !ok || value != "" && got != value {
		t.Fatalf("metadata %s = %q (present: %v), want %q", key, got, ok, value)
	}
}

func wantOK(t testing.TB, err error, doing string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", doing, err)
	}
}
