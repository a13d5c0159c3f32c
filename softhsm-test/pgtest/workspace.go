package pgtest

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
)

// workspace is what all clusters of this process have in common.
type workspace struct {
	dir      string // holds everything; the guard removes it
	programs string // directory of PostgreSQL's programs
	account  account
	password string // of both roles
	guard    *guard
	clusters atomic.Int64 // made so far, to name their directories
}

// process is package state because what it stands for is: a directory and a guard for
// the life of the test process. An error stays, so that only one test waits for it.
var process struct {
	mu     sync.Mutex
	ws     *workspace
	err    error
	shared *Cluster
}

// theWorkspace returns the workspace of this process, which the first call makes.
func theWorkspace() (*workspace, error) {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.ws == nil && process.err == nil {
		process.ws, process.err = newWorkspace()
	}
	return process.ws, process.err
}

func newWorkspace() (*workspace, error) {
	programs, err := findPrograms(programDirectories)
	if err != nil {
		return nil, err
	}
	who, err := unprivileged()
	if err != nil {
		return nil, err
	}
	parent, err := findParent(who)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(parent, "keyholt-pg-")
	if err != nil {
		return nil, err
	}
	guard, err := startGuard(dir)
	if err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	ws := &workspace{dir: dir, programs: programs, account: who, password: randomHex(16), guard: guard}
	if err := os.Chmod(dir, 0o711); err != nil { // for the account to pass through
		return nil, err
	}
	return ws, ws.makeTemplate()
}

// maxSocketPath is how long the path of a unix socket may be, in bytes without the
// final NUL, on the system that allows least (sun_path has 108 on Linux, 104 on macOS).
const maxSocketPath = 103

// findParent returns a directory for temporary files in which the paths of sockets do
// not get too long, and which the account can enter.
func findParent(who account) (string, error) {
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		parent, err := filepath.EvalSymlinks(parent)
		if err != nil {
			continue
		}
		longest := filepath.Join(parent, "keyholt-pg-0123456789", "c100", "s", ".s.PGSQL.65535.lock")
		if len(longest) <= maxSocketPath && (!who.other || openToOthers(parent)) {
			return parent, nil
		}
	}
	return "", fmt.Errorf("neither %s nor /tmp will do for PostgreSQL: the path must be short, "+
		"and open to the user that it runs as", os.TempDir())
}

// openToOthers reports whether users other than the owner may enter a directory.
func openToOthers(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
		dir = filepath.Dir(dir)
	}
}

func (ws *workspace) program(name string) string { return filepath.Join(ws.programs, name) }

func (ws *workspace) template() string { return filepath.Join(ws.dir, "template", "data") }

// makeTemplate makes the directory that every cluster begins as a copy of: copying takes
// a tenth of the time of initdb.
func (ws *workspace) makeTemplate() error {
	home := filepath.Dir(ws.template())
	if err := ws.account.mkdir(home); err != nil {
		return err
	}
	passwordFile := filepath.Join(home, "password")
	if err := os.WriteFile(passwordFile, []byte(ws.password+"\n"), 0o600); err != nil {
		return err
	}
	if ws.account.other {
		if err := os.Chown(passwordFile, ws.account.uid, ws.account.gid); err != nil {
			return err
		}
	}
	args := []string{
		"--pgdata=" + ws.template(), "--username=" + adminRole, "--pwfile=" + passwordFile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
	}
	// Before version 15, or built without ICU, initdb refuses the provider.
	withICU := append([]string{"--locale-provider=icu", "--icu-locale=en-US"}, args...)
	if ws.account.run(home, ws.program("initdb"), withICU...) == nil {
		return nil
	}
	return ws.account.run(home, ws.program("initdb"), args...)
}

// newHome makes the directory of the next cluster.
func (ws *workspace) newHome() (string, error) {
	home := filepath.Join(ws.dir, "c"+strconv.FormatInt(ws.clusters.Add(1), 10))
	if err := ws.account.mkdir(home); err != nil {
		return "", err
	}
	return home, ws.account.mkdir(filepath.Join(home, "s"))
}

// randomHex returns n random bytes in hexadecimal.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, as its documentation says
	return hex.EncodeToString(b)
}
