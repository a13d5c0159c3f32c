//go:build unix

package main

import (
	"errors"
	"os"
	"testing"
)

// A file is closed when another takes its place, which Windows asks for, and locked until
// after that.
func TestClosedBeforeReplaced(t *testing.T) {
	w := &world{T: t, dir: t.TempDir()}
	path := w.write("data", "old and the rest")
	open := func() *os.File {
		file, err := os.Open(path)
		w.must(err)
		t.Cleanup(func() { _ = file.Close() }) // a second time, for most
		return file
	}
	file, other := open(), open()
	w.must(lockFile(file))
	release, err := keepLock(file)
	w.must(err)
	info, err := file.Stat()
	w.must(err)
	w.must(os.MkdirAll(w.file("full/of"), 0o700))
	if err := replaceByCopy(file, info, w.file("full"), len("old"), []byte("new")); err == nil {
		t.Error("a directory was replaced")
	}
	if err := file.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the file was open when another was to be renamed over it: Close returned %v", err)
	}
	if err := lockFile(other); !errors.Is(err, errBusy) {
		t.Errorf("the lock ended with the file: %v", err)
	}
	release()
	w.must(lockFile(other))
	w.must(other.Close())

	w.must(replaceStart(path, []byte("old"), []byte("newer"), 1<<10))
	if got := w.read("data"); got != "newer and the rest" {
		t.Errorf("the file holds %q", got)
	}
	w.must(lockFile(open())) // nothing has kept the lock of the new file
}
