package softhsmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// confVariable names SoftHSM2's configuration file in the environment.
const confVariable = "SOFTHSM2_CONF"

// directory is the one directory of tokens that the tests of this process share. It
// is package state because what it stands for is: the environment variable and the
// module's configuration belong to the process.
var directory struct {
	mu    sync.Mutex
	path  string
	users int // tests that hold a token in it
}

// useDirectory makes the directory unless a running test uses it already, and
// returns the path of the configuration file. The last test that ends removes it.
func useDirectory(t testing.TB) (conf string) {
	t.Helper()
	directory.mu.Lock()
	defer directory.mu.Unlock()
	if directory.users == 0 {
		path, err := makeDirectory()
		if err != nil {
			t.Fatal(err)
		}
		directory.path = path
	}
	directory.users++
	t.Cleanup(func() {
		directory.mu.Lock()
		defer directory.mu.Unlock()
		directory.users--
		if directory.users == 0 {
			if err := os.RemoveAll(directory.path); err != nil {
				t.Errorf("removing the tokens: %v", err)
			}
		}
	})
	return confFile(directory.path)
}

func confFile(dir string) string { return filepath.Join(dir, "softhsm2.conf") }

// memoryDirectory is a file system in memory that Linux has. SoftHSM2 syncs every
// object that it writes, which on a disk takes most of a test's time.
const memoryDirectory = "/dev/shm"

// makeDirectory makes an empty directory of tokens and points SoftHSM2 to it. It is
// in memory where it can be, unless TMPDIR says where temporary files belong.
func makeDirectory() (string, error) {
	dir, err := "", os.ErrNotExist
	if os.Getenv("TMPDIR") == "" {
		dir, err = os.MkdirTemp(memoryDirectory, "keyholt-softhsm-")
	}
	if err != nil {
		dir, err = os.MkdirTemp("", "keyholt-softhsm-")
	}
	if err != nil {
		return "", err
	}
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return "", err
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n"+
		"slots.removable = false\n", tokens)
	if err := os.WriteFile(confFile(dir), []byte(conf), 0o600); err != nil {
		return "", err
	}
	return dir, os.Setenv(confVariable, confFile(dir))
}
