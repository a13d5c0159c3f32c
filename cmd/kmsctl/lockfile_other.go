//go:build !unix

package main

import "os"

// lockFile does nothing: here nothing keeps two runs from the same file.
func lockFile(*os.File) error { return nil }

// keepLock does nothing: there is no lock, and what is open cannot be replaced on Windows.
func keepLock(*os.File) (release func(), err error) { return func() {}, nil }

// keepOwner does nothing: a file belongs to whoever writes it.
func keepOwner(*os.File, os.FileInfo) {}

// inode does not tell here which names stand for one file.
func inode(os.FileInfo) (id any, names uint64) { return nil, 1 }
