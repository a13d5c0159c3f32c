package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// install makes a directory of programs such as a package would, without some of them.
func install(t *testing.T, root, version string, without ...string) string {
	t.Helper()
	dir := filepath.Join(root, version, "bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range needed {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range without {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindPrograms(t *testing.T) {
	root := t.TempDir()
	patterns := []string{filepath.Join(root, "*", "bin")}
	t.Setenv("PATH", "")
	if dir, err := findPrograms(patterns); !errors.Is(err, errMissing) {
		t.Errorf("nothing installed: found %q, error %v, want %v", dir, err, errMissing)
	}
	install(t, root, "9")
	want := install(t, root, "15")
	install(t, root, "17", "pg_basebackup")
	if dir, err := findPrograms(patterns); err != nil || dir != want {
		t.Errorf("found %q, error %v, want %q: the newest that is complete", dir, err, want)
	}
}

func TestFindProgramsOnPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(install(t, t.TempDir(), "local"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if found, err := findPrograms(nil); err != nil || found != dir {
		t.Errorf("found %q, error %v, want %q", found, err, dir)
	}
}
