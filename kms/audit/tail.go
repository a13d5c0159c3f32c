package audit

import (
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// tail is the end of the file that is written but not synced yet, and who waits for
// that. Whoever waits when a sync begins shares it.
type tail struct {
	log  *slog.Logger
	kick chan struct{} // somebody waits
	file logFile       // changed by the writer only, under both locks

	syncing sync.Mutex // held during a sync

	mu      sync.Mutex
	dirty   bool
	waiting []*entry
	// failed is the error of the last sync. The kernel may have dropped what it could not
	// write, and will say so only once: so until a sync succeeds every record waits for
	// its own.
	failed error
	// begun is when the sync began that is under way; zero if none is. One that takes longer
	// than MaxSyncInterval hangs, and until it has ended every record waits for the next.
	begun time.Time
}

// mustWait reports whether every record waits for a sync. It is called under the lock.
func (t *tail) mustWait() bool {
	return t.failed != nil || !t.begun.IsZero() && time.Since(t.begun) >= MaxSyncInterval
}

// wrote takes note of records that were written, and answers those that need no sync.
// It takes the others out of the batch: they may be answered, and used again, at once.
func (t *tail) wrote(batch []*entry) {
	t.mu.Lock()
	t.dirty = true
	all := t.mustWait()
	for i, e := range batch {
		if e.durable || all {
			t.waiting = append(t.waiting, e)
			batch[i] = nil
		}
	}
	wait := len(t.waiting) > 0
	t.mu.Unlock()
	if wait {
		select {
		case t.kick <- struct{}{}:
		default: // the kick before has not been noticed yet
		}
	}
	for _, e := range batch {
		if e != nil {
			e.done <- nil
		}
	}
}

// run syncs whenever somebody waits, and in the background as often as how says.
func (t *tail) run(how Sync, closing <-chan struct{}) {
	interval := how.interval
	if interval == 0 {
		interval = MaxSyncInterval // only to find out whether a sync that failed would succeed now
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-t.kick:
		case <-ticker.C:
		case <-closing:
			return // the writer syncs the rest
		}
		if err := t.flush(); err != nil {
			t.log.Error("audit log sync failed", slog.Any("error", err))
		}
	}
}

// flush syncs what has been written, and answers those who wait for it.
func (t *tail) flush() error {
	t.syncing.Lock()
	defer t.syncing.Unlock()

	t.mu.Lock()
	waiting, dirty := t.waiting, t.dirty
	t.waiting, t.dirty = nil, false
	if dirty {
		t.begun = time.Now()
	}
	t.mu.Unlock()
	if !dirty {
		return nil
	}
	err := t.file.Sync()
	if err != nil {
		err = fmt.Errorf("sync the audit log: %w", err)
	}
	t.mu.Lock()
	t.failed, t.begun = err, time.Time{}
	t.dirty = t.dirty || err != nil
	t.mu.Unlock()
	for _, e := range waiting {
		e.done <- err
	}
	return err
}

// replace makes next the file, and returns the one that was.
func (t *tail) replace(next logFile) logFile {
	t.syncing.Lock()
	defer t.syncing.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.file
	t.file = next
	return old
}
