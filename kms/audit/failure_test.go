package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// faultyFile is a log's file whose calls can be made to fail or to hang.
type faultyFile struct {
	*os.File
	syncs chan struct{} // receives one per sync that was begun
	gate  chan struct{} // a sync waits until it can receive; nil: it does not wait
	disk  chan struct{} // the same for a write

	mu       sync.Mutex
	syncErr  error
	writeErr error // after half of what is to be written
	keepTail bool  // Truncate fails
}

func newFaultyFile(t *testing.T, path string) *faultyFile {
	t.Helper()
	file, err := openLog(path, testConfig(path, Sync{}).Logger)
	if err != nil {
		t.Fatal(err)
	}
	return &faultyFile{File: file, syncs: make(chan struct{}, 1000)}
}

// open makes a log of the file.
func (f *faultyFile) open(t *testing.T, how Sync) *File {
	t.Helper()
	log := newFile(testConfig(f.Name(), how), f)
	log.start()
	return log
}

func (f *faultyFile) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if f.disk != nil {
		<-f.disk
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.writeErr != nil {
		n, err := f.File.Write(p[:len(p)/2])
		return n, errors.Join(f.writeErr, err)
	}
	return f.File.Write(p)
}

func (f *faultyFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.keepTail {
		return syscall.EPERM
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) Sync() error {
	f.syncs <- struct{}{}
	if f.gate != nil {
		<-f.gate
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.syncErr != nil {
		return f.syncErr
	}
	return f.File.Sync()
}

// TestControlIsSynced holds which records wait for the disk.
func TestControlIsSynced(t *testing.T) {
	file := newFaultyFile(t, logPath(t))
	file.gate = make(chan struct{})
	f := file.open(t, everySecond(t))
	record(t, f, dataEvent(t)) // returns although no sync does

	done := make(chan error, 1)
	go func() { done <- f.Record(t.Context(), controlEvent("rotate")) }()
	<-file.syncs
	select {
	case err := <-done:
		t.Errorf("the record of a control operation returned before it was synced: %v", err)
	default:
	}
	close(file.gate)
	if err := <-done; err != nil {
		t.Errorf("Record: %v", err)
	}
	closeFile(t, f)
}

// TestBackgroundSync holds that the record of a data operation is synced without a
// further record.
func TestBackgroundSync(t *testing.T) {
	file := newFaultyFile(t, logPath(t))
	how, err := SyncEvery(time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	f := file.open(t, how)
	record(t, f, dataEvent(t))
	<-file.syncs
	closeFile(t, f)
}

// TestGroupCommit holds that records which come during a sync share the next one.
func TestGroupCommit(t *testing.T) {
	file := newFaultyFile(t, logPath(t))
	file.gate = make(chan struct{})
	f := file.open(t, SyncAlways())
	const later = 20
	var group sync.WaitGroup
	group.Go(func() { record(t, f, dataEvent(t)) })
	<-file.syncs
	for range later {
		group.Go(func() { record(t, f, dataEvent(t)) })
	}
	for waiting := 0; waiting < later; { // until all of them are written
		runtime.Gosched()
		f.tail.mu.Lock()
		waiting = len(f.tail.waiting)
		f.tail.mu.Unlock()
	}
	close(file.gate)
	group.Wait()
	if more := len(file.syncs); more != 1 {
		t.Errorf("%d records took %d syncs, want 1", later, more)
	}
	closeFile(t, f)
}

func TestWriteFails(t *testing.T) {
	path := logPath(t)
	file := newFaultyFile(t, path)
	f := file.open(t, everySecond(t))
	record(t, f, controlEvent("before"))
	file.set(func() { file.writeErr = syscall.ENOSPC })
	for range 3 {
		if err := f.Record(t.Context(), controlEvent("during")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Record to a full disk: %v", err)
		}
	}
	file.set(func() { file.writeErr = nil })
	record(t, f, controlEvent("after"))
	lines := readLines(t, path)
	if len(lines) != 2 || lines[1].Reason != "after" || !strings.HasSuffix(lines[1].ID, "-2") {
		t.Errorf("the log holds %+v", lines)
	}
	closeFile(t, f)
}

// TestWriteFailsAppendOnly is the same where what was written cannot be removed: the
// part of a line gets a line of its own.
func TestWriteFailsAppendOnly(t *testing.T) {
	path := logPath(t)
	file := newFaultyFile(t, path)
	f := file.open(t, everySecond(t))
	record(t, f, controlEvent("before"))
	file.set(func() { file.writeErr, file.keepTail = syscall.ENOSPC, true })
	for range 2 {
		if err := f.Record(t.Context(), controlEvent("during")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Record to a full disk: %v", err)
		}
	}
	file.set(func() { file.writeErr = nil })
	record(t, f, controlEvent("after"))
	record(t, f, controlEvent("later"))
	closeFile(t, f)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 5 || !strings.Contains(lines[3], `"after"`) || !strings.Contains(lines[4], `"later"`) {
		t.Errorf("the log holds %q", lines)
	}
}

// TestSyncFails holds that after a failed sync no record returns before a good one.
func TestSyncFails(t *testing.T) {
	file := newFaultyFile(t, logPath(t))
	f := file.open(t, everySecond(t))
	file.set(func() { file.syncErr = syscall.EIO })
	if err := f.Record(t.Context(), controlEvent("lost?")); !errors.Is(err, syscall.EIO) {
		t.Errorf("Record of a control operation: %v", err)
	}
	if err := f.Record(t.Context(), dataEvent(t)); !errors.Is(err, syscall.EIO) {
		t.Errorf("Record of a data operation: %v", err)
	}
	file.set(func() { file.syncErr = nil })
	record(t, f, dataEvent(t))
	record(t, f, controlEvent("kept"))
	closeFile(t, f)
}

// TestHangingDisk holds that no call outlives its context, however many there are. In the
// bubble of synctest it is known when nobody can go on any more.
func TestHangingDisk(t *testing.T) {
	path := logPath(t)
	synctest.Test(t, func(t *testing.T) {
		const later = queueLength + 10 // more than can be queued
		file := newFaultyFile(t, path)
		file.disk = make(chan struct{})
		f := file.open(t, everySecond(t))
		ctx, cancel := context.WithCancel(t.Context())
		outcomes := make(chan error, 1+later)
		call := func() { outcomes <- f.Record(ctx, dataEvent(t)) }
		go call()
		synctest.Wait() // until the disk hangs with this record
		for range later {
			go call()
		}
		synctest.Wait()
		if queued := len(f.queue); queued != queueLength || len(outcomes) != 0 {
			t.Errorf("%d records are queued, %d calls have returned", queued, len(outcomes))
		}
		cancel()
		for range cap(outcomes) {
			if err := <-outcomes; !errors.Is(err, context.Canceled) {
				t.Errorf("Record: %v", err)
			}
		}
		if err := f.Close(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Close: %v", err)
		}
		close(file.disk) // it answers again
		closeFile(t, f)
		if lines := readLines(t, path); len(lines) != 1+queueLength {
			t.Errorf("the log holds %d records, want %d", len(lines), 1+queueLength)
		}
	})
}

// TestHangingSync holds that records do not go on for ever without a sync: when one has taken
// as long as a record may stay unsynced, each waits for the next.
func TestHangingSync(t *testing.T) {
	path := logPath(t)
	synctest.Test(t, func(t *testing.T) {
		file := newFaultyFile(t, path)
		file.gate = make(chan struct{})
		f := file.open(t, everySecond(t))
		record(t, f, dataEvent(t))
		<-file.syncs
		record(t, f, dataEvent(t)) // the sync may still be in time
		<-time.After(MaxSyncInterval)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Record(ctx, dataEvent(t)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Record: %v", err)
		}
		done := make(chan error, 1)
		go func() { done <- f.Record(t.Context(), dataEvent(t)) }()
		synctest.Wait()
		close(file.gate) // the disk answers again
		if err := <-done; err != nil {
			t.Errorf("Record: %v", err)
		}
		record(t, f, dataEvent(t))
		closeFile(t, f)
	})
}

// TestErrorsNameWhatFailed keeps the texts that an operator reads useful.
func TestErrorsNameWhatFailed(t *testing.T) {
	file := newFaultyFile(t, logPath(t))
	f := file.open(t, SyncAlways())
	file.set(func() { file.writeErr = syscall.ENOSPC })
	if err := f.Record(t.Context(), dataEvent(t)); !strings.Contains(fmt.Sprint(err), "write the audit log: no space left on device") {
		t.Errorf("Record: %v", err)
	}
	file.set(func() { file.writeErr, file.syncErr = nil, syscall.EIO })
	if err := f.Record(t.Context(), dataEvent(t)); !strings.Contains(fmt.Sprint(err), "sync the audit log: input/output error") {
		t.Errorf("Record: %v", err)
	}
	file.set(func() { file.syncErr = nil })
	closeFile(t, f)
}
