package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"github.com/keyholt/keyholt/kms/envelope"
)

// headerWrites is how many files' headers are replaced at once: each waits for the disk.
const headerWrites = 8

// target is a file to rewrap.
type target struct {
	path  string
	asked bool // its path was given, so it has to be one of ours
}

// encryptedFile is a target that is one of ours. If its ciphertext changes its first old
// bytes, which is all of a file that "encrypt --remote" has made, are replaced.
type encryptedFile struct {
	path   string
	old    []byte
	header *envelope.FileHeader // nil: the file is a single ciphertext
	*ciphertext
}

// files rewraps the files in all the paths.
func (r *rewrapper) files(ctx context.Context, paths []string) error {
	targets, err := findTargets(ctx, paths)
	if err != nil {
		return err
	}
	t := newTally("files")
	bar := r.a.progress(int64(len(targets)), "rewrapping",
		progressbar.OptionShowBytes(false), progressbar.OptionShowCount())
	began := time.Now()
	for done := 0; done < len(targets); {
		some := targets[done:min(done+rewrapBatch, len(targets))]
		if err := r.someFiles(ctx, some, t); err != nil {
			_ = bar.Clear()
			return r.stopped(t, err)
		}
		done += len(some)
		showRate(bar, int64(done), t, began)
	}
	_ = bar.Clear() // a line of the screen that did not clear is no failure
	return r.finish(ctx, t, true)
}

// findTargets lists the files. In directories it leaves out links and what is no regular
// file, and what rewrap itself has left.
func findTargets(ctx context.Context, paths []string) ([]target, error) {
	var targets []target
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			if path, err = filepath.EvalSymlinks(path); err != nil { // the file is replaced, not the link to it
				return nil, err
			}
			targets = append(targets, target{path, true})
			continue
		}
		err = filepath.WalkDir(path, func(path string, entry fs.DirEntry, err error) error {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			if entry.Type().IsRegular() && !isLeftover(entry.Name()) {
				targets = append(targets, target{path, false})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return targets, nil
}

// someFiles rewraps a batch of files.
func (r *rewrapper) someFiles(ctx context.Context, targets []target, t *tally) error {
	var files []*encryptedFile
	var all []*ciphertext
	for _, target := range targets {
		if err := ctx.Err(); err != nil {
			return err
		}
		file, err := r.examine(target)
		switch {
		case err != nil:
			t.fail(r.a, target.path, err)
		case file == nil:
			t.other++
		case r.flags.count:
			t.count(file.blob)
		default:
			files, all = append(files, file), append(all, file.ciphertext)
		}
	}
	if err := r.run(ctx, all); err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(headerWrites)
	for _, file := range files {
		if file.changed() {
			group.Go(func() error {
				if err := r.replace(file); err != nil {
					file.err, file.out = err, file.blob // it stays where it was
				}
				return nil
			})
		}
	}
	_ = group.Wait() // each failure is that of its file
	for _, file := range files {
		t.add(r.a, file.ciphertext, func() string { return file.path })
	}
	return nil
}

// examine reads what there is to rewrap in a file; nil: it is none of ours. Unless files are
// only counted, it first brings to an end what an interrupted run has left of it.
func (r *rewrapper) examine(t target) (*encryptedFile, error) {
	file, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	if !r.flags.count {
		if err := recoverFile(file, t.path); err != nil {
			return nil, err
		}
	}
	start := make([]byte, envelope.FileHeaderMaxSize)
	n, err := io.ReadFull(file, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	start = start[:n]
	switch {
	case bytes.HasPrefix(start, fileMagic()):
		header, size, err := envelope.ParseFileHeader(start)
		if err != nil {
			return nil, err
		}
		prefix := header.ID.Prefix()
		return &encryptedFile{t.path, start[:size], &header, newCiphertext(header.WrappedKey, prefix[:])}, nil
	case bytes.HasPrefix(start, []byte(blobMagic)):
		rest, err := io.ReadAll(io.LimitReader(file, envelope.MaxBlobSize+1))
		if err != nil {
			return nil, err
		}
		blob := append(start, rest...)
		if c := newCiphertext(blob, nil); c.err == nil && c.parsed.Kind == envelope.KindData {
			return &encryptedFile{t.path, blob, nil, c}, nil
		}
	}
	if t.asked {
		return nil, fmt.Errorf("it is nothing that \"kmsctl encrypt\" makes")
	}
	return nil, nil //nolint:nilnil // none of ours
}

// replace puts the new wrapped key, or ciphertext, into the file.
func (r *rewrapper) replace(f *encryptedFile) error {
	if f.header == nil {
		return replaceStart(f.path, f.old, f.out, math.MaxInt64) // small, and nothing of it stays as it was
	}
	header, err := envelope.AppendFileHeader(nil, envelope.FileHeader{ID: f.header.ID, WrappedKey: f.out})
	if err != nil {
		return err
	}
	return replaceStart(f.path, f.old, header, r.copyLimit)
}
