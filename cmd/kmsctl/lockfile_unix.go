//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// errBusy is the error of a file that another run works on.
var errBusy = errors.New("another kmsctl rewrap works on it")

// lockFile keeps other runs from the file until it is closed, or longer: see keepLock.
func lockFile(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errBusy
	}
	return err
}

// keepLock has the lock of a file outlive its closing. It belongs to all descriptors of one
// opening, so one more of them holds it (flock(2)).
func keepLock(file *os.File) (release func(), err error) {
	held, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return func() { _ = syscall.Close(held) }, nil // of a file that is only read
}

// keepOwner gives the file the owner of another, as far as it may.
func keepOwner(file *os.File, from os.FileInfo) {
	if owner, ok := from.Sys().(*syscall.Stat_t); ok {
		_ = file.Chown(int(owner.Uid), int(owner.Gid)) // only root may give a file away
	}
}

// inode tells which file a name stands for, and how many names that has. The numbers have
// other types on other systems.
func inode(info os.FileInfo) (id any, names uint64) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, 1
	}
	return [2]any{stat.Dev, stat.Ino}, widened(stat.Nlink)
}

func widened[T uint16 | uint32 | uint64](n T) uint64 { return uint64(n) }
