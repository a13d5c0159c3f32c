package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/keyholt/keyholt/hsm"
)

// softHSMEnv names SoftHSM2's module where it is in none of the usual places.
const softHSMEnv = "SOFTHSM2_MODULE"

// softHSMPaths are patterns of where packages put SoftHSM2's module.
var softHSMPaths = [...]string{
	"/usr/lib/softhsm/libsofthsm2.so",              // Debian, Ubuntu, Alpine
	"/usr/lib/*-linux-gnu*/softhsm/libsofthsm2.so", // Debian and Ubuntu, by architecture
	"/usr/lib64/pkcs11/libsofthsm2.so",             // Fedora, RHEL
	"/usr/lib64/softhsm/libsofthsm2.so",            // openSUSE
	"/usr/lib/pkcs11/libsofthsm2.so",               // Arch
	"/usr/lib/libsofthsm2.so",                      // Arch
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",     // Homebrew, Apple silicon
	"/usr/local/lib/softhsm/libsofthsm2.so",        // Homebrew, Intel; built from source
}

// findSoftHSM returns the path of SoftHSM2's module, the first that a pattern matches. An
// error matches hsm.ErrModule and says what to install.
func findSoftHSM(patterns []string) (string, error) {
	if path := os.Getenv(softHSMEnv); path != "" {
		if _, err := os.Stat(path); err != nil { //nolint:gosec // the environment of this process is its operator's
			return "", as(hsm.ErrModule, fmt.Errorf("%s: %w", softHSMEnv, err))
		}
		return path, nil
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", as(hsm.ErrModule, fmt.Errorf("SoftHSM2, the token of kmsd dev, is not installed. %s. "+
		"If it is in an unusual place, set %s to the path of libsofthsm2.so", installHint(runtime.GOOS), softHSMEnv))
}

func installHint(system string) string {
	if system == "darwin" {
		return "Run: brew install softhsm"
	}
	return "On Debian and Ubuntu run: sudo apt-get install softhsm2; on Fedora: sudo dnf install softhsm; " +
		"on Arch: sudo pacman -S softhsm; with Homebrew: brew install softhsm"
}
