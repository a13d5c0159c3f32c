package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// errMissing tells what to install. A test that finds no PostgreSQL fails and is not
// skipped: `make test` installs it.
var errMissing = errors.New("PostgreSQL's server programs (initdb, postgres, pg_ctl, pg_basebackup) are not installed: " +
	"run `make deps`, or install postgresql (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql@15)")

// programDirectories are where packages put the server programs, most of which are not
// on PATH: Debian and Ubuntu, Fedora, Homebrew.
var programDirectories = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
}

// needed are the programs that one directory must hold together: programs of different
// versions do not understand each other's files.
var needed = []string{"initdb", "postgres", "pg_ctl", "pg_basebackup"}

// findPrograms returns the directory of the newest PostgreSQL that has all programs.
func findPrograms(patterns []string) (string, error) {
	best, newest := "", -1
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("%s: %w", pattern, err)
		}
		for _, dir := range found {
			if version := versionOf(dir); version > newest && hasPrograms(dir) {
				best, newest = dir, version
			}
		}
	}
	if best != "" {
		return best, nil
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil && hasPrograms(filepath.Dir(initdb)) {
			return filepath.Dir(initdb), nil
		}
	}
	return "", errMissing
}

func hasPrograms(dir string) bool {
	for _, name := range needed {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

var majorVersion = regexp.MustCompile(`[0-9]+`)

// versionOf reads the major version from the path of a directory of programs, such as
// /usr/lib/postgresql/15/bin; 0 without one.
func versionOf(dir string) int {
	version, err := strconv.Atoi(majorVersion.FindString(filepath.Base(filepath.Dir(dir))))
	if err != nil {
		return 0
	}
	return version
}
