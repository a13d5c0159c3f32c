package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

// maxBatch is about how many bytes go into one write.
const maxBatch = 1 << 20

// writer is the state of the goroutine that writes. Nobody else touches it, except
// closeErr after that goroutine has ended.
type writer struct {
	run      string // identity of this opening of the log
	number   uint64 // of the last record
	torn     bool   // part of a line is at the end of the file and cannot be removed
	batch    []*entry
	buffer   []byte
	closeErr error
}

// write writes records until the log is closed.
func (f *File) write() {
	for {
		select {
		case e := <-f.queue:
			// On a busy host hardly two records would ever meet: the writer is woken by one,
			// and writes it before others get a processor. So it lets those go first that
			// are ready to run; where there are none this takes well under a microsecond.
			runtime.Gosched()
			f.writeBatch(e)
		case reply := <-f.reopens:
			reply <- f.swap()
		case <-f.closing:
			f.finish()
			return
		}
	}
}

// finish writes what is still queued and closes the file.
func (f *File) finish() {
	for {
		select {
		case e := <-f.queue:
			f.writeBatch(e)
		default:
			f.writer.closeErr = errors.Join(f.tail.flush(), f.tail.file.Close())
			return
		}
	}
}

// writeBatch writes the record and those that have queued up behind it with one write(2).
func (f *File) writeBatch(first *entry) {
	w := &f.writer
	missing := f.replaceDeleted()
	w.begin()
	number := w.number
	for e := first; e != nil; e = f.queued() {
		number++
		w.add(e, number)
		if len(w.buffer) >= maxBatch {
			break
		}
	}
	if missing != nil {
		w.refuse(missing)
		return
	}
	if n, err := f.tail.file.Write(w.buffer); err != nil {
		if !f.undo(n) {
			w.number = number // some of them may be in the file
		}
		w.refuse(fmt.Errorf("write the audit log: %w", err))
		return
	}
	w.number = number
	w.torn = false
	f.tail.wrote(w.batch)
}

// refuse answers the whole batch with an error.
func (w *writer) refuse(err error) {
	for _, e := range w.batch {
		e.done <- err
	}
}

// replaceDeleted goes on with a new file when the one that is open was deleted: what is
// written to it nobody could ever read. A file that was only renamed is gone on with
// until Reopen, as rotation wants it.
func (f *File) replaceDeleted() error {
	if !deleted(f.tail.file) {
		return nil
	}
	f.log.Error("the audit log was deleted; its records are lost", slog.String("path", f.path))
	if err := f.swap(); err != nil {
		return fmt.Errorf("the audit log was deleted and cannot be begun anew: %w", err)
	}
	return nil
}

// deleted reports whether no name leads to the file any more. One that cannot say is taken
// to be there: writing to it shows whether it is well.
func deleted(file logFile) bool {
	info, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}

// queued returns the next record if there is one.
func (f *File) queued() *entry {
	select {
	case e := <-f.queue:
		return e
	default:
		return nil
	}
}

func (w *writer) begin() {
	clear(w.batch)
	w.batch = w.batch[:0]
	if cap(w.buffer) > 2*maxBatch {
		w.buffer = nil
	}
	w.buffer = w.buffer[:0]
	if w.torn {
		w.buffer = append(w.buffer, '\n')
	}
}

func (w *writer) add(e *entry, number uint64) {
	w.batch = append(w.batch, e)
	w.buffer = append(append(append(w.buffer, `{"id":"`...), w.run...), '-')
	w.buffer = append(strconv.AppendUint(w.buffer, number, 10), `",`...)
	w.buffer = append(w.buffer, e.line...)
}

// undo removes the n bytes that a failed write has left, such as on a full disk. Where
// that is not possible (an append-only file) the next write begins with a newline.
// It reports whether nothing is left.
func (f *File) undo(n int) bool {
	if n == 0 {
		return true
	}
	info, err := f.tail.file.Stat()
	if err == nil {
		err = f.tail.file.Truncate(info.Size() - int64(n))
	}
	if err != nil {
		f.writer.torn = true
		f.log.Error("part of an audit record cannot be removed", slog.Any("error", err))
	}
	return err == nil
}

// swap changes over to the file at the path, unless it is the one already.
func (f *File) swap() error {
	current, err := f.tail.file.Stat()
	if err != nil {
		return fmt.Errorf("reopen the audit log: %w", err)
	}
	if there, err := os.Stat(f.path); err == nil && os.SameFile(there, current) {
		return nil
	}
	next, err := openLog(f.path, f.log)
	if err != nil {
		return err
	}
	// Who waits for a sync waits for one of the old file.
	err = errors.Join(f.tail.flush(), f.tail.replace(next).Close())
	f.writer.torn = false
	if err != nil {
		return fmt.Errorf("close the rotated audit log: %w", err)
	}
	return nil
}
