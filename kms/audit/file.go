package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/keyholt/keyholt/kms"
)

// ErrClosed is the error of a log that was closed.
var ErrClosed = errors.New("audit: the log is closed")

const (
	// queueLength is how many records may wait for the writer. Further ones wait to be
	// queued, for as long as their contexts let them.
	queueLength = 1024
	// keptBytes is the largest buffer that is kept for the next record.
	keptBytes = 256 << 10
)

// Config says where a log is and how it is kept.
type Config struct {
	Path string // of the file; its directory must exist
	Sync Sync   // of the records of data operations
	// Reason names the outcome of an error in a record, as DECRYPTION_FAILED. Required.
	Reason func(error) string
	// Logger is told of repairs and of failures that no request notices. Required.
	Logger *slog.Logger
}

// File is an audit log in a file of JSON lines. Its methods may be called concurrently.
//
// One goroutine writes and another syncs, so that a call can give up on a disk that
// hangs: everything waits for channels and contexts, only those two for the disk.
type File struct {
	path    string
	sync    Sync
	log     *slog.Logger
	entries sync.Pool // of *entry

	queue   chan *entry
	reopens chan chan error
	closing chan struct{} // closed when Close is called
	stopped chan struct{} // closed when both goroutines have ended
	close   sync.Once

	writer writer
	tail   tail
}

var _ kms.Auditor = (*File)(nil)

// entry is a record on its way to the disk.
type entry struct {
	encoder

	durable bool       // wait for a sync
	done    chan error // receives the outcome once; holds it until somebody reads it
}

// OpenFile opens the log and makes its file if there is none, readable by its owner
// only. No other process may have the same log open.
func OpenFile(c Config) (*File, error) {
	if c.Path == "" || c.Reason == nil || c.Logger == nil {
		return nil, errors.New("audit: a log needs a path, reasons and a logger")
	}
	file, err := openLog(c.Path, c.Logger)
	if err != nil {
		return nil, err
	}
	f := newFile(c, file)
	f.start()
	return f, nil
}

func newFile(c Config, file logFile) *File {
	var run [8]byte
	_, _ = rand.Read(run[:]) // never fails
	f := &File{
		path:    c.Path,
		sync:    c.Sync,
		log:     c.Logger,
		queue:   make(chan *entry, queueLength),
		reopens: make(chan chan error),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		writer:  writer{run: hex.EncodeToString(run[:])},
		tail:    tail{file: file, kick: make(chan struct{}, 1), log: c.Logger},
	}
	f.entries.New = func() any {
		return &entry{encoder: encoder{reason: c.Reason}, done: make(chan error, 1)}
	}
	return f
}

// start starts the two goroutines.
func (f *File) start() {
	var running sync.WaitGroup
	running.Go(f.write)
	running.Go(func() { f.tail.run(f.sync, f.closing) })
	go func() {
		running.Wait()
		close(f.stopped)
	}()
}

// Record appends the event. When it returns nil the record is as durable as the
// package promises. It returns at the latest when the context is done, with an error
// that wraps the context's.
func (f *File) Record(ctx context.Context, event *kms.Event) error {
	e, _ := f.entries.Get().(*entry)
	e.encode(event)
	e.durable = f.sync == SyncAlways() || event.Action.Changes()
	select {
	case <-f.closing:
		return ErrClosed
	default:
	}
	select {
	case f.queue <- e:
	case <-f.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("audit: the log does not keep up: %w", ctx.Err())
	}
	select {
	case err := <-e.done:
		f.recycle(e)
		return err
	case <-ctx.Done():
		return fmt.Errorf("audit: the record was not confirmed in time: %w", ctx.Err())
	case <-f.stopped:
		return e.lastWord()
	}
}

// lastWord is the outcome of an entry when no goroutine is left that could give it one.
func (e *entry) lastWord() error {
	select {
	case err := <-e.done:
		return err
	default:
		return ErrClosed
	}
}

// recycle keeps an entry that nobody else refers to any more.
func (f *File) recycle(e *entry) {
	if cap(e.line) <= keptBytes {
		f.entries.Put(e)
	}
}

// Reopen goes on with the file that is now at the path, making it if there is none: to
// be called after the file was renamed for rotation. If there is no opening that file, it
// returns why and goes on with the old one.
func (f *File) Reopen(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case f.reopens <- reply:
	case <-f.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("audit: reopen: %w", ctx.Err())
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return fmt.Errorf("audit: reopen: %w", ctx.Err())
	}
}

// Close writes and syncs what is queued, and closes the file. Further records are
// refused with ErrClosed. To repeat it returns the same.
func (f *File) Close(ctx context.Context) error {
	f.close.Do(func() { close(f.closing) })
	select {
	case <-f.stopped:
		return f.writer.closeErr
	case <-ctx.Done():
		return fmt.Errorf("audit: close: %w", ctx.Err())
	}
}
