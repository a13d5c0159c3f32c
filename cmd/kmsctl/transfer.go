package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// dataFlags are those of commands that turn one stream of bytes into another.
type dataFlags struct {
	in, out string
	context []string
	force   bool
	remote  bool
}

func (f *dataFlags) add(cmd *cobra.Command, remote string) {
	f.addFiles(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.context, "context", nil, "encryption context, as KEY=VALUE; may be repeated")
	flags.BoolVar(&f.remote, "remote", false, remote)
}

// addFiles adds the flags of input and output only.
func (f *dataFlags) addFiles(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.in, "in", "", "input file; default or -: standard input")
	flags.StringVar(&f.out, "out", "", "output file, which appears when it is complete; default or -: standard output")
	flags.BoolVar(&f.force, "force", false, "replace the output file if it exists")
}

// binding is what the flags bind the data to.
func (f *dataFlags) binding() (kms.Binding, error) {
	pairs, err := parsePairs("context", f.context)
	return kms.Binding{Context: pairs}, err
}

// transfer opens input and output, lets work turn the one into the other, and makes the
// output appear if it succeeded.
func (a *app) transfer(ctx context.Context, f *dataFlags, doing string,
	work func(dst io.Writer, src io.Reader) error,
) error {
	src, size, closeIn, err := a.openIn(ctx, f.in)
	if err != nil {
		return err
	}
	defer closeIn()
	out, err := createOut(ctx, f.out, f.force, a.stdout)
	if err != nil {
		return err
	}
	if out.file != nil || !a.terminal(a.stdout) {
		bar := a.progress(size, doing)
		defer func() { _ = bar.Clear() }() // a line of the screen that did not clear is no failure
		src = progressReader{src, bar}
	}
	err = work(out, src)
	closeIn() // before the output appears, maybe in its place: Windows replaces no file that is open
	if err == nil {
		return out.commit()
	}
	if errors.Is(err, client.ErrStream) && !out.temporary {
		err = fmt.Errorf("%w; what was written before is authentic, but it is not all", err)
	}
	if abortErr := out.abort(); abortErr != nil {
		err = errors.Join(err, abortErr)
	}
	return err
}

// openIn opens the input; size is -1 if it is not known. closeIn may be called again.
func (a *app) openIn(ctx context.Context, path string) (src io.Reader, size int64, closeIn func(), err error) {
	if path == "" || path == "-" {
		src, closeIn = interruptible(ctx, a.stdin)
		return src, -1, closeIn, nil
	}
	file, err := openWaiting(ctx, path, os.O_RDONLY)
	if err != nil {
		return nil, 0, nil, err
	}
	closeIn = func() { _ = file.Close() } // it was only read
	info, err := file.Stat()
	switch {
	case err != nil:
		closeIn()
		return nil, 0, nil, err
	case info.IsDir():
		closeIn()
		return nil, 0, nil, usagef("--in %s is a directory", path)
	case info.Mode().IsRegular():
		return file, info.Size(), closeIn, nil
	default:
		src, stop := interruptible(ctx, file)
		return src, -1, func() {
			stop()
			_ = file.Close() // it was only read
		}, nil
	}
}

// openWaiting opens a file which may be a named pipe, whose opening waits for the other end,
// but not beyond the context. What is opened later than that is open until the program ends.
func openWaiting(ctx context.Context, path string, flag int) (*os.File, error) {
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		file, err := os.OpenFile(path, flag, 0)
		done <- opened{file, err}
	}()
	select {
	case o := <-done:
		return o.file, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// interruptible is a reader that does not wait for r once the context has ended: a
// person's ^C must not need an Enter after it. A read of r that is under way then goes
// on in the background, until the program ends.
func interruptible(ctx context.Context, r io.Reader) (io.Reader, func()) {
	reader, writer := io.Pipe()
	go func() {
		_, err := io.Copy(writer, r)
		writer.CloseWithError(err)
	}()
	stop := context.AfterFunc(ctx, func() { writer.CloseWithError(ctx.Err()) })
	return reader, func() {
		stop()
		_ = reader.Close() // of a pipe in memory: never fails
	}
}

// progressReader shows how much was read. An error of the bar, such as a file that grew
// while it was read, is none of the reading.
type progressReader struct {
	r   io.Reader
	bar *progressbar.ProgressBar
}

func (r progressReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	_ = r.bar.Add(n)
	return n, err
}

// progress is a bar on standard error, if a person sees it.
func (a *app) progress(size int64, doing string, more ...progressbar.Option) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size, append([]progressbar.Option{
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetVisibility(a.terminal(a.stderr)),
		progressbar.OptionSetDescription(doing),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionSetPredictTime(size > 0),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine of its own
		progressbar.OptionClearOnFinish(),
	}, more...)...)
}
