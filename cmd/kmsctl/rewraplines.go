package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/keyholt/keyholt/kms/envelope"
)

const (
	// maxBlobLine is longer than any ciphertext in base64.
	maxBlobLine = 4*((envelope.MaxBlobSize+2)/3) + 16
	// chunkBytes is how much input is on its way at once, beside the number of lines.
	chunkBytes = 4 << 20
	// chunksAhead is how many chunks are on their way while one is written.
	chunksAhead = 3
)

// errNoResume is wrapped by the error of a run whose output cannot be gone on with.
var errNoResume = errors.New("standard output has no place to go on from")

// errLongLine is the error of a line that goes through unread.
var errLongLine = errors.New("it is longer than any ciphertext")

// line is a line of the input. What is no base64 fails. One that is longer than any
// ciphertext is several of the same number: the first fails, the others have no ciphertext.
type line struct {
	number int
	text   []byte // with its end
	*ciphertext
}

// chunk is a number of consecutive lines, and where the input stands after them.
type chunk struct {
	lines []line
	mark  resumeMark
	done  chan error // told when they are rewrapped
}

// lines rewraps the lines of the input.
func (r *rewrapper) lines(ctx context.Context) error {
	toFile := r.flags.out != "" && r.flags.out != "-"
	if !toFile && !r.flags.count {
		if err := r.a.refuseOutput(); err != nil {
			return err
		}
	}
	in, size, closeIn, err := r.a.openIn(ctx, r.flags.in)
	if err != nil {
		return err
	}
	defer closeIn()
	input := &lineReader{r: bufio.NewReaderSize(in, maxBlobLine), sum: sha256.New()}
	t := newTally("ciphertext")
	if r.flags.count {
		if err := countLines(r.a, input, t); err != nil {
			return err
		}
		return r.finish(ctx, t, true)
	}
	out, err := r.openLines(input, t)
	if err != nil {
		return err
	}
	bar := r.a.progress(size, "rewrapping")
	if !toFile && r.a.terminal(r.a.stdout) {
		bar = nil
	}
	err = r.pump(ctx, input, out, t, bar)
	if bar != nil {
		_ = bar.Clear() // a line of the screen that did not clear is no failure
	}
	if err != nil {
		return r.stopped(t, errors.Join(err, out.stop()))
	}
	closeIn() // --force may put the output in its place, and Windows replaces no file that is open
	if err := out.finish(); err != nil {
		return err
	}
	return r.finish(ctx, t, toFile)
}

// pump reads chunks, has several rewrapped at once, and writes them in order.
func (r *rewrapper) pump(ctx context.Context, in *lineReader, out *lineWriter, t *tally, bar *progressbar.ProgressBar) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan *chunk, chunksAhead)
	reading := make(chan error, 1)
	go func() {
		defer close(queue)
		reading <- in.chunks(func(c *chunk) error {
			go func() { c.done <- r.run(ctx, c.ciphertexts()) }()
			select {
			case queue <- c:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	began := time.Now()
	for c := range queue {
		// Of a failure nobody waits for the reader: its input may never say anything more.
		if err := <-c.done; err != nil {
			return err
		}
		if err := out.write(c); err != nil {
			return err
		}
		for _, l := range c.lines {
			if l.ciphertext != nil {
				t.add(r.a, l.ciphertext, func() string { return fmt.Sprintf("line %d", l.number) })
			}
		}
		showRate(bar, c.mark.InputBytes, t, began)
	}
	return <-reading
}

// showRate shows how far it is, and how fast.
func showRate(bar *progressbar.ProgressBar, done int64, t *tally, began time.Time) {
	if bar == nil {
		return
	}
	n := t.rewrapped + t.unchanged + t.failed
	bar.Describe(fmt.Sprintf("rewrapping: %d, %.0f/s", n, float64(n)/max(time.Since(began).Seconds(), 0.001)))
	_ = bar.Set64(done) // beyond the size of a file that has grown: none of the work's business
}

func countLines(a *app, in *lineReader, t *tally) error {
	return in.chunks(func(c *chunk) error {
		for _, l := range c.lines {
			switch {
			case l.ciphertext == nil:
			case l.err != nil:
				t.fail(a, fmt.Sprintf("line %d", l.number), l.err)
			default:
				t.count(l.blob)
			}
		}
		return nil
	})
}

func (c *chunk) ciphertexts() []*ciphertext {
	var all []*ciphertext
	for _, l := range c.lines {
		if l.ciphertext != nil {
			all = append(all, l.ciphertext)
		}
	}
	return all
}

// lineReader reads the input and knows where it stands.
type lineReader struct {
	r      *bufio.Reader
	sum    hash.Hash // of all that was read
	number int       // of lines read, or begun
	inLine bool      // in the middle of a line that is longer than any ciphertext
	bytes  int64
}

// chunks reads to the end of the input.
func (in *lineReader) chunks(take func(*chunk) error) error {
	for {
		c, err := in.chunk()
		if err != nil {
			return err
		}
		if len(c.lines) == 0 {
			return nil
		}
		if err := take(c); err != nil {
			return err
		}
	}
}

// chunk reads up to a batch of lines; none at the end of the input.
func (in *lineReader) chunk() (*chunk, error) {
	c := &chunk{done: make(chan error, 1)}
	for size := 0; len(c.lines) < rewrapBatch && size < chunkBytes; {
		text, err := in.r.ReadSlice('\n')
		full := errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !full && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if len(text) == 0 {
			break
		}
		in.bytes += int64(len(text))
		in.sum.Write(text)
		size += len(text)
		c.lines = append(c.lines, in.line(bytes.Clone(text), full))
	}
	c.mark = resumeMark{Lines: in.number, InLine: in.inLine, InputBytes: in.bytes, InputSHA256: in.sum.Sum(nil)}
	return c, nil
}

// line makes a line of what was read. goes: it goes on after that.
func (in *lineReader) line(text []byte, goes bool) line {
	begins := !in.inLine
	if begins {
		in.number++
	}
	in.inLine = goes
	switch {
	case !begins:
		return line{number: in.number, text: text}
	case goes:
		return line{in.number, text, &ciphertext{err: errLongLine}}
	default:
		return newLine(in.number, text)
	}
}

// newLine decodes a line. An empty one has no ciphertext.
func newLine(number int, text []byte) line {
	trimmed := bytes.TrimSpace(text)
	if len(trimmed) == 0 {
		return line{number: number, text: text}
	}
	blob := make([]byte, base64.StdEncoding.DecodedLen(len(trimmed)))
	n, err := base64.StdEncoding.Decode(blob, trimmed)
	if err != nil {
		return line{number, text, &ciphertext{err: fmt.Errorf("it is not base64: %w", err)}}
	}
	return line{number, text, newCiphertext(blob[:n], nil)}
}

// result is the line as it goes out.
func (l *line) result() []byte {
	if l.ciphertext == nil || !l.changed() {
		return l.text
	}
	text := base64.StdEncoding.AppendEncode(nil, l.out)
	return append(text, '\n')
}
