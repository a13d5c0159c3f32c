package keystore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/keyholt/keyholt/kms"
)

// fileLock is an exclusive lock on a file, held by this process until it is released or
// the process ends, however it ends. It excludes a second lock of the same process too:
// flock locks belong to the open file, not to the process.
type fileLock struct{ file *os.File }

// lockStore locks the store at path by its lock file. A lock that another holds is
// kms.ErrStoreLocked.
func lockStore(path string) (*fileLock, error) {
	name := path + ".lock"
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unavailable(err, "cannot make the lock file of the store: %v", err)
	}
	if err := flock(file, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer func() { _ = file.Close() }()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, locked(path, file)
		}
		return nil, unavailable(err, "cannot lock %s: %v", name, err)
	}
	// The process id only helps whoever finds the store locked: not worth failing for.
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &fileLock{file}, nil
}

// Close lets others lock the store. The file stays: to remove it could take away the
// file that another process has locked in the meantime.
func (l *fileLock) Close() error { return l.file.Close() }

// locked says who holds the lock, as far as the file tells.
func locked(path string, file *os.File) error {
	holder := "another process"
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if pid, convErr := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && convErr == nil {
		holder = fmt.Sprintf("process %d", pid)
		if pid == os.Getpid() {
			holder = "this process"
		}
	}
	return &kms.Error{
		Sentinel: kms.ErrStoreLocked,
		Message: fmt.Sprintf("the store %s is in use by %s; stop it first, or give this one a data directory of its own",
			path, holder),
		Metadata: map[string]string{"path": path},
	}
}

func flock(file *os.File, how int) error {
	for {
		err := syscall.Flock(int(file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
