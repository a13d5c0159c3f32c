package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// An output file of lines is written as FILE.partial. Beside it, FILE.partial-state says
// how far it was on disk, and for which input: it is replaced as a whole, at most each
// second, after what it speaks of was synced. So whatever ends a run, the next one can cut
// FILE.partial to where the state says and go on there.

// resumeMark is where a run stands.
type resumeMark struct {
	Lines       int    `json:"lines"`
	InLine      bool   `json:"in_line,omitempty"` // the last of them is not over
	InputBytes  int64  `json:"input_bytes"`
	InputSHA256 []byte `json:"input_sha256"` // of so many bytes of the input
	OutputBytes int64  `json:"output_bytes"`
}

// markEvery is how much work a crash may cost.
const markEvery = time.Second

// lineWriter writes the lines of a run, and where it stands.
type lineWriter struct {
	w     *bufio.Writer
	out   *outFile
	state string // path; empty: standard output
	mark  resumeMark
	saved time.Time
}

// openLines opens the output, and goes on where an earlier run has stopped: the input is
// read up to there.
func (r *rewrapper) openLines(in *lineReader, t *tally) (*lineWriter, error) {
	path := r.flags.out
	if path == "" || path == "-" {
		return &lineWriter{w: bufio.NewWriter(r.a.stdout), out: &outFile{Writer: r.a.stdout}}, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, usagef("--out %s is no regular file", path)
	} else if err == nil && !r.flags.force {
		return nil, errExists(path)
	}
	file, err := os.OpenFile(path+".partial", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	w := &lineWriter{
		out: &outFile{Writer: file, file: file, temporary: true, path: path, replace: r.flags.force}, state: path + ".partial-state",
	}
	if err := w.resume(r, in, t); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	w.w = bufio.NewWriterSize(file, 1<<20)
	return w, nil
}

// resume puts output and input to where the earlier run stood.
func (w *lineWriter) resume(r *rewrapper, in *lineReader, t *tally) error {
	err := lockFile(w.out.file)
	if err == nil {
		err = checkNamed(w.out.file)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.out.file.Name(), err)
	}
	var mark resumeMark
	if !r.flags.restart {
		if mark, err = w.load(); err != nil {
			return err
		}
	}
	if mark.Lines > 0 {
		if err := in.skip(mark); err != nil {
			return fmt.Errorf("%s is of another input: %w; --restart begins anew", w.out.file.Name(), err)
		}
		if err := t.countOutput(io.NewSectionReader(w.out.file, 0, mark.OutputBytes)); err != nil {
			return err
		}
		r.a.sayf("kmsctl: going on after line %d, where an earlier run has stopped", mark.Lines)
	}
	if err := w.out.file.Truncate(mark.OutputBytes); err != nil {
		return err
	}
	w.mark = mark
	_, err = w.out.file.Seek(mark.OutputBytes, io.SeekStart)
	return err
}

// load reads where the earlier run stood; nowhere if there was none, or if its output is
// not all there.
func (w *lineWriter) load() (resumeMark, error) {
	text, err := os.ReadFile(w.state)
	if errors.Is(err, fs.ErrNotExist) {
		return resumeMark{}, nil
	}
	if err != nil {
		return resumeMark{}, err
	}
	var mark resumeMark
	if err := json.Unmarshal(text, &mark); err != nil {
		return resumeMark{}, fmt.Errorf("%s is damaged (%v); --restart begins anew", w.state, err)
	}
	info, err := w.out.file.Stat()
	if err != nil {
		return resumeMark{}, err
	}
	if info.Size() < mark.OutputBytes {
		return resumeMark{}, nil
	}
	return mark, nil
}

// write writes a chunk. From time to time it makes sure that what was written stays.
func (w *lineWriter) write(c *chunk) error {
	written := w.mark.OutputBytes
	for i := range c.lines {
		n, err := w.w.Write(c.lines[i].result())
		if err != nil {
			return err
		}
		written += int64(n)
	}
	w.mark = c.mark
	w.mark.OutputBytes = written
	if w.state == "" {
		return w.w.Flush()
	}
	if time.Since(w.saved) < markEvery {
		return nil
	}
	return w.save()
}

// save makes what was written durable, and then says so.
func (w *lineWriter) save() error {
	if err := w.w.Flush(); err != nil {
		return err
	}
	if err := w.out.file.Sync(); err != nil {
		return err
	}
	text, err := json.Marshal(&w.mark)
	if err != nil {
		return err
	}
	if err := replaceFile(w.state, text, 0o600); err != nil {
		return err
	}
	w.saved = time.Now()
	return nil
}

// checkNamed checks that a file still has its name: before it was locked another run may have
// come to its end, and made it the output or thrown it away.
func checkNamed(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if named, err := os.Lstat(file.Name()); err != nil || !os.SameFile(named, info) {
		return errChanged
	}
	return nil
}

// stop ends a run that is not through.
func (w *lineWriter) stop() error {
	if w.state == "" {
		return errors.Join(errNoResume, w.w.Flush())
	}
	release, err := keepLock(w.out.file)
	if err != nil {
		return errors.Join(err, w.save(), w.out.file.Close())
	}
	defer release()
	if w.mark.Lines == 0 {
		return w.out.abort()
	}
	return errors.Join(w.save(), w.out.file.Close())
}

// finish makes the output appear under its name.
func (w *lineWriter) finish() error {
	if err := w.w.Flush(); err != nil {
		return err
	}
	if w.state == "" {
		return w.out.commit()
	}
	// The file is closed before it gets its name, and no other run may take it up between.
	release, err := keepLock(w.out.file)
	if err != nil {
		return err
	}
	defer release()
	if err := w.out.commit(); err != nil {
		return err
	}
	return ignoreMissing(os.Remove(w.state))
}

// skip reads the part of the input that is done, which must be what it was.
func (in *lineReader) skip(mark resumeMark) error {
	n, err := io.CopyN(in.sum, in.r, mark.InputBytes)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n != mark.InputBytes || !bytes.Equal(in.sum.Sum(nil), mark.InputSHA256) {
		return errors.New("the beginning is not the same")
	}
	in.number, in.inLine, in.bytes = mark.Lines, mark.InLine, mark.InputBytes
	return nil
}

// countOutput counts what an earlier run has written. What is no ciphertext has failed then.
func (t *tally) countOutput(r io.Reader) error {
	lines := &lineReader{r: bufio.NewReaderSize(r, maxBlobLine), sum: noSum{}}
	return lines.chunks(func(c *chunk) error {
		for _, l := range c.lines {
			switch {
			case l.ciphertext == nil:
			case l.err != nil:
				t.failed++
				t.last = l.err
			default:
				t.count(l.blob)
			}
		}
		return nil
	})
}

// noSum is a hash that nobody wants.
type noSum struct{}

func (noSum) Write(p []byte) (int, error) { return len(p), nil }
func (noSum) Sum(b []byte) []byte         { return b }
func (noSum) Reset()                      {}
func (noSum) Size() int                   { return 0 }
func (noSum) BlockSize() int              { return 1 }

// replaceFile writes a file durably, as a whole or not at all.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.partial")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(file.Name())))
	}
	return syncDir(filepath.Dir(path))
}
