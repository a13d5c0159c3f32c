package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// shelf keeps files of SoftHSM2's objects out of the token while more are made. SoftHSM2
// opens the file of every object for each search, and making a key takes searches: ten
// thousand keys would take a quarter of an hour, and take a minute or two when those that
// are made already stand aside.
type shelf struct {
	tokens string // SoftHSM2's directory of tokens
	aside  string
	stays  map[string]bool // files, relative to tokens, that the server needs meanwhile
}

// newShelf makes a shelf on which the files that are there now are never put.
func newShelf(tokens, aside string) (*shelf, error) {
	s := &shelf{tokens: tokens, aside: aside, stays: map[string]bool{}}
	return s, s.each(tokens, func(name string) error {
		s.stays[name] = true
		return nil
	})
}

// generationFile is a number of eight bytes, big endian, that SoftHSM2 raises with each
// change of a token, so that other processes look at its directory again.
const generationFile = "generation"

// put puts aside what has been made. Nobody may be using the token.
func (s *shelf) put() error {
	return s.each(s.tokens, func(name string) error {
		switch {
		case filepath.Base(name) == generationFile:
			return raise(filepath.Join(s.tokens, name))
		case s.stays[name]:
			return nil
		default:
			return move(filepath.Join(s.aside, name), filepath.Join(s.tokens, name))
		}
	})
}

// raise makes SoftHSM2 notice what is gone.
func raise(path string) error {
	number, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(number) != 8 {
		return fmt.Errorf("%s has %d bytes: not a SoftHSM2 as this program knows it", path, len(number))
	}
	binary.BigEndian.PutUint64(number, binary.BigEndian.Uint64(number)+1)
	return os.WriteFile(path, number, 0o600) //nolint:gosec // a file of the throwaway token
}

// back puts everything back.
func (s *shelf) back() error {
	err := s.each(s.aside, func(name string) error {
		return move(filepath.Join(s.tokens, name), filepath.Join(s.aside, name))
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was put
	}
	return err
}

// each calls visit with the name of each file below root, relative to it.
func (s *shelf) each(root string, visit func(name string) error) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return visit(name)
	})
}

func move(to, from string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.Rename(from, to)
}
