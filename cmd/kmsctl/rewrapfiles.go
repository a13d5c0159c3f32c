package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// headerWrites is how many files' headers are replaced at once: each waits for the disk.
const headerWrites = 8

// encryptedFile is a target that is one of ours. If its ciphertext changes its first old
// bytes, which is all of a file that "encrypt --remote" has made, are replaced.
type encryptedFile struct {
	*target
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
	t := newTally("file")
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

// someFiles rewraps a batch of files.
func (r *rewrapper) someFiles(ctx context.Context, targets []*target, t *tally) error {
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
		if file.changed() && file.outside > 0 {
			r.a.sayf("kmsctl: %s: under the old version still, elsewhere: %s of it (hard links)", file.path, kms.Counted(file.outside, "more name"))
			t.elsewhere += file.outside
		}
	}
	return nil
}

// examine reads what there is to rewrap in a file; nil: it is none of ours. Unless files are
// only counted, it first brings to an end what an interrupted run has left of it.
func (r *rewrapper) examine(t *target) (*encryptedFile, error) {
	file, err := os.Open(t.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	if !r.flags.count {
		for _, name := range t.names() {
			if err := recoverFile(file, name); err != nil {
				return nil, err
			}
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
		return &encryptedFile{t, start[:size], &header, newCiphertext(header.WrappedKey, prefix[:])}, nil
	case bytes.HasPrefix(start, []byte(blobMagic)):
		rest, err := io.ReadAll(io.LimitReader(file, envelope.MaxBlobSize+1))
		if err != nil {
			return nil, err
		}
		blob := append(start, rest...)
		if c := newCiphertext(blob, nil); c.err == nil && c.parsed.Kind == envelope.KindData {
			return &encryptedFile{t, blob, nil, c}, nil
		}
	}
	if t.asked {
		return nil, fmt.Errorf("it is nothing that \"kmsctl encrypt\" makes")
	}
	return nil, nil //nolint:nilnil // none of ours
}

// replace puts the new wrapped key, or ciphertext, into the file, under all its names.
func (r *rewrapper) replace(f *encryptedFile) error {
	before, err := os.Lstat(f.path)
	if err != nil {
		return err
	}
	if f.header == nil {
		err = replaceStart(f.path, f.old, f.out, math.MaxInt64) // small, and nothing of it stays as it was
	} else {
		err = r.replaceHeader(f)
	}
	if err != nil {
		return err
	}
	return f.link(before)
}

// replaceHeader copies a small file, unless it has names that a copy would not get.
func (r *rewrapper) replaceHeader(f *encryptedFile) error {
	header, err := envelope.AppendFileHeader(nil, envelope.FileHeader{ID: f.header.ID, WrappedKey: f.out})
	if err != nil {
		return err
	}
	limit := r.copyLimit
	if f.outside > 0 {
		limit = 0
	}
	return replaceStart(f.path, f.old, header, limit)
}
