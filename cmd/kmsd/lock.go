package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// dataDirLock is this process's hold on a data directory. It ends with the process,
// however that ends.
type dataDirLock struct{ file *os.File }

// openDataDir makes the data directory, for its owner alone, if it is not there, and
// locks it. An error matches errInUse if another process has the lock, else errStorage.
func openDataDir(dir string) (*dataDirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, as(errStorage, err)
	}
	path := filepath.Join(dir, lockFile)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, as(errStorage, err)
	}
	if err := flock(file); err != nil {
		defer func() { _ = file.Close() }()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, as(errInUse, fmt.Errorf("the data directory %s is in use by %s; stop it first, or use another directory",
				dir, lockHolder(path)))
		}
		return nil, as(errStorage, fmt.Errorf("lock %s: %w", path, err))
	}
	// The process id only helps whoever finds the directory locked: not worth failing for.
	if err := file.Truncate(0); err == nil {
		_, _ = file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return &dataDirLock{file}, nil
}

// release ends the lock. The file stays: to remove it could take away the file that
// another process has locked in the meantime.
func (l *dataDirLock) release() error { return l.file.Close() }

func lockHolder(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "another process"
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
