package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// target is a file to rewrap. A file that has several names (hard links) is one target, so
// that it is rewrapped once, and stays one file.
type target struct {
	path    string
	asked   bool     // one of its paths was given, so it has to be one of ours
	others  []string // its other paths
	outside uint64   // how many more names it has, which are not in the paths that were given
}

func (t *target) names() []string { return append([]string{t.path}, t.others...) }

// targetList collects targets.
type targetList struct {
	all   []*target
	known map[any]*target // by inode
	seen  map[string]bool // paths
}

// findTargets lists the files. In directories it leaves out links and what is no regular
// file, and what rewrap itself has left.
func findTargets(ctx context.Context, paths []string) ([]*target, error) {
	list := &targetList{known: make(map[any]*target), seen: make(map[string]bool)}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() && !info.Mode().IsRegular() {
			return nil, usagef("%s is no regular file: lines come from --in", path)
		}
		if !info.IsDir() {
			if path, err = filepath.EvalSymlinks(path); err != nil { // the file is replaced, not the link to it
				return nil, err
			}
			list.add(path, info, true)
			continue
		}
		err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			if !entry.Type().IsRegular() || isLeftover(entry.Name()) {
				return nil
			}
			info, err := entry.Info()
			if errors.Is(err, fs.ErrNotExist) { // it was removed meanwhile
				return nil
			}
			if err == nil {
				list.add(path, info, false)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return list.all, nil
}

func (l *targetList) add(path string, info os.FileInfo, asked bool) {
	path = filepath.Clean(path)
	id, names := inode(info)
	t := l.known[id]
	switch {
	case id == nil && l.seen[path]:
	case id == nil || t == nil:
		t = &target{path: path, asked: asked, outside: names - 1}
		l.all = append(l.all, t)
		if id != nil {
			l.known[id] = t
		}
	default:
		t.asked = t.asked || asked
		if !l.seen[path] {
			t.others = append(t.others, path)
			t.outside -= min(t.outside, 1)
		}
	}
	l.seen[path] = true
}

// link makes the other names of a file that was replaced by a copy names of the copy. Each
// is replaced as a whole: a reader sees the old file or the new one. Names outside of the
// paths that were given stay names of the old file.
func (f *encryptedFile) link(before os.FileInfo) error {
	now, err := os.Lstat(f.path)
	if err != nil || os.SameFile(before, now) { // in place: under all its names
		f.outside = 0
		return err
	}
	for _, name := range f.others {
		info, err := os.Lstat(name)
		switch {
		case err != nil:
			return fmt.Errorf("its other name %s: %w", name, err)
		case os.SameFile(info, now): // another path to the same name
		case !os.SameFile(info, before):
			return fmt.Errorf("its other name %s: %w", name, errChanged)
		default:
			if err := replaceByLink(f.path, name); err != nil {
				return fmt.Errorf("its other name %s is under the old version still: %w", name, err)
			}
		}
	}
	return nil
}

// replaceByLink makes name another name of the file at path.
func replaceByLink(path, name string) error {
	temporary := leftover(name, copySuffix)
	if err := ignoreMissing(os.Remove(temporary)); err != nil {
		return err
	}
	if err := os.Link(path, temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, name); err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(temporary)))
	}
	return syncDir(filepath.Dir(name))
}
