package softhsmtest

import (
	"os"
	"testing"
)

// modulePaths are where packages put SoftHSM2's module: Debian and Ubuntu, Fedora,
// Alpine and Arch, Homebrew.
var modulePaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
	"/usr/local/opt/softhsm/lib/softhsm/libsofthsm2.so",
}

// ModulePath returns the path of the SoftHSM2 module of this machine, or "" if it is
// not installed.
func ModulePath() string {
	for _, path := range modulePaths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Require returns the path of the SoftHSM2 module. Where it is missing the test is
// skipped, except in CI (the variable CI is set), where it fails: a suite that
// silently tests nothing is worse than none.
func Require(t testing.TB) string {
	t.Helper()
	return RequireFile(t, "the SoftHSM2 module (package softhsm2)", modulePaths...)
}

// RequireFile returns the first of the paths that exists, under the same rule.
func RequireFile(t testing.TB, what string, paths ...string) string {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed", what)
	}
	t.Skipf("%s is not installed", what)
	return ""
}
