package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyholt/keyholt/kms/envelope"
)

// The beginning of a file is replaced in one of two ways, both of which survive a crash at
// any moment.
//
// A file up to copyLimit, or one whose beginning changes its length, is written anew
// beside itself, synced, and renamed: a reader sees the old file or the new one.
//
// A larger file is changed in place, so that terabytes need not be copied for 92 bytes of
// each file. What is to stand there is first written to a file of its own beside it, and
// synced: the redo file. If the machine stops while the beginning is half overwritten, the
// next run finds the redo file and writes the beginning again. Until then the file does not
// decrypt.

const (
	// copyLimit is the size in bytes up to which a file is copied.
	copyLimit = 64 << 20

	redoSuffix = ".rewrap-redo"
	copySuffix = ".rewrap-copy"
)

// errChanged is the error of a file that is not what it was when it was read.
var errChanged = errors.New("it was changed by somebody else meanwhile; it was left alone")

// leftover is the path of what a run may leave beside a file.
func leftover(path, suffix string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+suffix)
}

func isLeftover(name string) bool {
	return strings.HasPrefix(name, ".") && (strings.HasSuffix(name, redoSuffix) || strings.HasSuffix(name, copySuffix))
}

// replaceStart replaces the first bytes of a file, which must be those in old.
func replaceStart(path string, old, with []byte, limit int64) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	if err := lockFile(file); err != nil {
		return err
	}
	release, err := keepLock(file)
	if err != nil {
		return err
	}
	defer release()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := checkSame(file, info, path, old); err != nil {
		return err
	}
	if info.Size() > limit && len(old) == len(with) {
		writable, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			return replaceInPlace(writable, path, with)
		}
		if !errors.Is(err, fs.ErrPermission) { // a file that may only be read can be replaced as a whole
			return err
		}
	}
	return replaceByCopy(file, info, path, len(old), with)
}

// checkSame checks that the file still has its name and its beginning.
func checkSame(file *os.File, info os.FileInfo, path string, old []byte) error {
	named, err := os.Lstat(path)
	if err != nil {
		return err
	}
	start := make([]byte, len(old))
	if _, err := file.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !os.SameFile(named, info) || !bytes.Equal(start, old) {
		return errChanged
	}
	return nil
}

// replaceByCopy writes the file anew, and closes it: Windows replaces no file that is open.
// Its lock must outlive that, or another run could begin the same copy anew before this one
// has its name. The new file keeps mode and owner. The time of modification is that of now: a
// program that backs up what has changed has to notice.
func replaceByCopy(file *os.File, info os.FileInfo, path string, skip int, start []byte) error {
	temporary, err := os.OpenFile(leftover(path, copySuffix), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = temporary.Write(start)
	if err == nil {
		_, err = io.Copy(temporary, io.NewSectionReader(file, int64(skip), info.Size()-int64(skip)))
	}
	if err == nil {
		keepOwner(temporary, info)
		err = temporary.Chmod(info.Mode().Perm()) // after the owner, whose change clears bits of it
	}
	err = errors.Join(err, temporary.Sync(), temporary.Close(), file.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(temporary.Name())))
	}
	return syncDir(filepath.Dir(path))
}

// replaceInPlace writes the redo file and then the beginning of the file, which it closes.
func replaceInPlace(file *os.File, path string, start []byte) error {
	redo := leftover(path, redoSuffix)
	if err := replaceFile(redo, redoFile(start), 0o600); err != nil {
		return errors.Join(err, file.Close())
	}
	return writeStart(file, redo, start)
}

// redoFile is the content of a redo file: a sum that tells whether it is complete, and what
// is to stand at the beginning of the file.
func redoFile(start []byte) []byte {
	sum := sha256.Sum256(start)
	return append(sum[:], start...)
}

// writeStart overwrites the beginning of a file, and closes it. When that is on disk the
// redo file has done its duty; else it stays.
func writeStart(file *os.File, redo string, start []byte) error {
	_, err := file.WriteAt(start, 0)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Remove(redo); err != nil {
		return err
	}
	return syncDir(filepath.Dir(redo))
}

// recoverFile brings to an end what an interrupted run has begun with a file.
func recoverFile(file *os.File, path string) error {
	redo, unfinished := leftover(path, redoSuffix), leftover(path, copySuffix)
	content, redoErr := os.ReadFile(redo)
	_, copyErr := os.Lstat(unfinished)
	if errors.Is(redoErr, fs.ErrNotExist) && errors.Is(copyErr, fs.ErrNotExist) {
		return nil
	}
	if err := lockFile(file); err != nil {
		return err // of a run that is under way
	}
	if err := ignoreMissing(os.Remove(unfinished)); err != nil {
		return err
	}
	if redoErr != nil {
		return ignoreMissing(redoErr)
	}
	return redoStart(file, path, redo, content)
}

// redoStart writes the beginning of a file again, if the redo file is complete and belongs
// to the file: magic, version and file id are never changed.
func redoStart(file *os.File, path, redo string, content []byte) error {
	const size = sha256.Size
	if len(content) <= size || sha256.Sum256(content[size:]) != [size]byte(content[:size]) {
		return os.Remove(redo)
	}
	start := content[size:]
	fixed := make([]byte, min(len(start), envelope.FilePrefixSize))
	if _, err := file.ReadAt(fixed, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.HasPrefix(start, fixed) {
		return os.Remove(redo)
	}
	writable, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return writeStart(writable, redo, start)
}
