package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// outFile is where a command's data goes: standard output, or a file that appears under
// its name when it is complete, and not before.
type outFile struct {
	io.Writer
	file      *os.File // nil: standard output
	temporary bool     // file is to be renamed to path
	path      string
	replace   bool
}

// createOut opens the output; "" and "-" are standard output. A regular file is written
// under a temporary name in the same directory, readable by its owner only. One that
// exists is left alone unless replace is set; devices and pipes are written to as they
// are.
func createOut(ctx context.Context, path string, replace bool, stdout io.Writer) (*outFile, error) {
	if path == "" || path == "-" {
		return &outFile{Writer: stdout}, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, usagef("%s is a directory", path)
	case !info.Mode().IsRegular():
		file, err := openWaiting(ctx, path, os.O_WRONLY)
		if err != nil {
			return nil, err
		}
		return &outFile{Writer: file, file: file, path: path}, nil
	case !replace:
		return nil, errExists(path)
	default:
		if path, err = filepath.EvalSymlinks(path); err != nil { // replace the file, not the link to it
			return nil, err
		}
	}
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.partial") // mode 0600
	if err != nil {
		return nil, named(path, err)
	}
	return &outFile{Writer: namedWriter{file, path}, file: file, temporary: true, path: path, replace: replace}, nil
}

// named is an error of a file operation with the name that the user gave, in place of the
// temporary one.
func named(path string, err error) error {
	var (
		ofPath *fs.PathError
		ofLink *os.LinkError
	)
	switch {
	case errors.As(err, &ofPath):
		return &fs.PathError{Op: ofPath.Op, Path: path, Err: ofPath.Err}
	case errors.As(err, &ofLink):
		return &fs.PathError{Op: ofLink.Op, Path: path, Err: ofLink.Err}
	}
	return err
}

// namedWriter writes to a file whose errors are to name path.
type namedWriter struct {
	io.Writer
	path string
}

func (w namedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	return n, named(w.path, err)
}

func errExists(path string) error {
	return fmt.Errorf("%s exists; add --force to replace it", path)
}

// commit makes the file appear, durably, with all that was written.
func (o *outFile) commit() error {
	if o.file == nil {
		return nil
	}
	if !o.temporary {
		return o.file.Close()
	}
	err := errors.Join(named(o.path, o.file.Sync()), named(o.path, o.file.Close()))
	if err == nil {
		err = named(o.path, o.publish())
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(o.file.Name())))
	}
	return syncDir(filepath.Dir(o.path))
}

// publish gives the file its name. A hard link never replaces a file that came into
// being meanwhile; file systems that have none get a rename.
func (o *outFile) publish() error {
	if !o.replace {
		err := os.Link(o.file.Name(), o.path)
		if err == nil {
			return os.Remove(o.file.Name())
		}
		if _, statErr := os.Lstat(o.path); statErr == nil {
			return errExists(o.path)
		}
	}
	return os.Rename(o.file.Name(), o.path)
}

// abort throws away what was written.
func (o *outFile) abort() error {
	if o.file == nil {
		return nil
	}
	err := o.file.Close()
	if o.temporary {
		err = errors.Join(err, os.Remove(o.file.Name()))
	}
	return err
}

// syncDir makes a new name in a directory durable, where the system can. Windows flushes
// only what is open for writing, which no directory can be, and refuses others.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
