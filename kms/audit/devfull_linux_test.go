package audit

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// TestDevFull writes to a device that is always full, which every Linux has.
func TestDevFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := &faultyFile{File: full, syncs: make(chan struct{}, 1000)}
	f := file.open(t, SyncAlways())
	if err := f.Record(t.Context(), dataEvent(t)); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Record: %v", err)
	}
	closeFile(t, f)
}
