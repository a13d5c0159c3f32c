package bench

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func TestShelf(t *testing.T) {
	tokens, aside := filepath.Join(t.TempDir(), "tokens"), filepath.Join(t.TempDir(), "aside")
	write := func(name string, content []byte) {
		t.Helper()
		path := filepath.Join(tokens, "a", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	count := func() int {
		t.Helper()
		entries, err := os.ReadDir(filepath.Join(tokens, "a"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	write(generationFile, binary.BigEndian.AppendUint64(nil, 255))
	write("seal.object", nil)
	s, err := newShelf(tokens, aside)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.back(); err != nil { // nothing was put
		t.Fatal(err)
	}
	for _, name := range []string{"1.object", "2.object"} {
		write(name, []byte(name))
		if err := s.put(); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != 2 {
			t.Errorf("%d files are left in the token, want the two that stay", n)
		}
	}
	number, err := os.ReadFile(filepath.Join(tokens, "a", generationFile))
	if err != nil || binary.BigEndian.Uint64(number) != 257 {
		t.Errorf("generation %x (%v), want 257", number, err)
	}
	if err := s.back(); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 4 {
		t.Errorf("%d files are back in the token, want 4", n)
	}
	write(generationFile, []byte("7"))
	if err := s.put(); err == nil {
		t.Error("a generation that is none was raised")
	}
}
