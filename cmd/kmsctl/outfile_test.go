package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOutNamesTheFileAskedFor: no error tells of the temporary name.
func TestOutNamesTheFileAskedFor(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "none", "out")
	_, err := createOut(t.Context(), missing, false, new(bytes.Buffer))
	if !errors.Is(err, fs.ErrNotExist) || err.Error() != "open "+missing+": no such file or directory" {
		t.Errorf("in a directory that is missing: %v", err)
	}

	for name, spoil := range map[string]func(*outFile) error{
		"write":   func(o *outFile) error { return o.file.Close() },
		"publish": func(o *outFile) error { return os.Remove(o.file.Name()) },
	} {
		path := filepath.Join(dir, name)
		out, err := createOut(t.Context(), path, true, new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(out); err != nil {
			t.Fatal(err)
		}
		if _, err = out.Write([]byte("data")); err == nil {
			err = out.commit()
		}
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "partial") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
