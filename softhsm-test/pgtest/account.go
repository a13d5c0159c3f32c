package pgtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is the user as whom PostgreSQL's programs run.
type account struct {
	other    bool // another user than that of this process
	uid, gid int
}

// unprivileged returns this process's own user, or for root one who may do less.
func unprivileged() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		found, err = user.Lookup("nobody")
	}
	if err != nil {
		return account{}, fmt.Errorf("PostgreSQL does not run as root, and there is neither postgres nor nobody: %w", err)
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", found.Username, err)
	}
	gid, err := strconv.Atoi(found.Gid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", found.Username, err)
	}
	return account{other: true, uid: uid, gid: gid}, nil
}

// mkdir makes a directory that only the account may use.
func (a account) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if !a.other {
		return nil
	}
	return os.Chown(dir, a.uid, a.gid)
}

// command is a program that will run as the account in dir, which it may enter where it
// might not enter the directory of this process. It has a process group of its own, so
// that an interrupt from the terminal ends the tests first.
func (a account) command(dir, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if a.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return cmd
}

// run runs such a program to its end; an error holds what it wrote.
func (a account) run(dir, program string, args ...string) error {
	if out, err := a.command(dir, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, bytes.TrimSpace(out))
	}
	return nil
}

// environment is that of this process without the variables that would point
// PostgreSQL's programs to another server, and with messages in English.
func environment() []string {
	env := []string{"LC_ALL=C"}
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "LC_ALL=") {
			env = append(env, variable)
		}
	}
	return env
}
