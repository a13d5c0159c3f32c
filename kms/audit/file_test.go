package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestAppend(t *testing.T) {
	path := logPath(t)
	for round := range 3 {
		f := openFile(t, path, everySecond(t))
		record(t, f, controlEvent(fmt.Sprint("control ", round)))
		record(t, f, dataEvent(t))
		closeFile(t, f)
		closeFile(t, f)
		if err := f.Record(t.Context(), dataEvent(t)); !errors.Is(err, ErrClosed) {
			t.Errorf("Record after Close: %v", err)
		}
		if err := f.Reopen(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Reopen after Close: %v", err)
		}
	}
	lines := readLines(t, path)
	if len(lines) != 6 || lines[0].Reason != "control 0" || lines[4].Reason != "control 2" {
		t.Errorf("the log holds %+v", lines)
	}
	runs := make(map[string]bool)
	for i, l := range lines {
		run, number, _ := strings.Cut(l.ID, "-")
		if runs[run] = true; number != fmt.Sprint(i%2+1) {
			t.Errorf("line %d has the id %s", i+1, l.ID)
		}
	}
	if len(runs) != 3 {
		t.Errorf("three openings have %d identities", len(runs))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
}

func TestConcurrentRecords(t *testing.T) {
	path := logPath(t)
	f := openFile(t, path, SyncAlways())
	const recorders, each = 16, 50
	var group sync.WaitGroup
	for i := range recorders {
		group.Go(func() {
			for j := range each {
				event := dataEvent(t)
				event.Reason = fmt.Sprintf("%d/%d", i, j)
				if err := f.Record(t.Context(), event); err != nil {
					t.Errorf("Record: %v", err)
				}
			}
		})
	}
	group.Wait()
	lines := readLines(t, path)
	seen := make(map[string]bool)
	for i, l := range lines {
		seen[l.Reason] = true
		if _, number, _ := strings.Cut(l.ID, "-"); number != fmt.Sprint(i+1) {
			t.Errorf("line %d has the id %s", i+1, l.ID)
		}
	}
	if len(lines) != recorders*each || len(seen) != recorders*each {
		t.Errorf("%d lines of %d records, want %d", len(lines), len(seen), recorders*each)
	}
}

func TestOpenRefuses(t *testing.T) {
	directory := t.TempDir()
	inUse := filepath.Join(directory, "in-use.jsonl")
	openFile(t, inUse, SyncAlways())
	tests := []struct{ path, says string }{
		{inUse, "in use"},
		{"/dev/null", "not a regular file"},
		{directory, "is a directory"},
		{filepath.Join(directory, "missing", "audit.jsonl"), "no such file"},
		{"", "path"},
	}
	for _, test := range tests {
		if _, err := OpenFile(testConfig(test.path, SyncAlways())); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("OpenFile(%q): %v", test.path, err)
		}
	}
	if _, err := OpenFile(Config{Path: filepath.Join(directory, "x")}); err == nil {
		t.Error("a log without reasons and a logger was opened")
	}
}

func TestTornLine(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 200<<10)
	whole := []byte(`{"id":"a-1"}` + "\n")
	tests := []struct {
		name       string
		text, torn []byte
	}{
		{"part of a line", append(bytes.Clone(whole), `{"id":"a-2","ti`...), []byte(`{"id":"a-2","ti`)},
		{"longer than what is read at a time", append(bytes.Clone(whole), long...), long},
		{"nothing else", []byte(`{"id"`), []byte(`{"id"`)},
		{"zeros", append(bytes.Clone(whole), 0, 0, 0), []byte{0, 0, 0}},
		{"whole lines", whole, nil},
		{"empty", nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := logPath(t)
			if err := os.WriteFile(path, test.text, 0o600); err != nil {
				t.Fatal(err)
			}
			f := openFile(t, path, SyncAlways())
			record(t, f, controlEvent("after"))
			before := bytes.Count(test.text, []byte("\n"))
			if lines := readLines(t, path); len(lines) != before+1 || lines[before].Reason != "after" {
				t.Errorf("the log holds %+v", lines)
			}
			torn, err := os.ReadFile(path + ".torn")
			if test.torn == nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("nothing was torn, and yet there is %q, %v", torn, err)
			}
			if test.torn != nil && !bytes.Equal(torn, append(test.torn, '\n')) {
				t.Errorf("%d bytes were kept, %v", len(torn), err)
			}
		})
	}
}

// TestTornTwice holds that a torn line does not replace an earlier one.
func TestTornTwice(t *testing.T) {
	path := logPath(t)
	for _, part := range []string{"first", "second"} {
		if err := os.WriteFile(path, []byte(part), 0o600); err != nil {
			t.Fatal(err)
		}
		closeFile(t, openFile(t, path, SyncAlways()))
	}
	if torn, err := os.ReadFile(path + ".torn"); err != nil || string(torn) != "first\nsecond\n" {
		t.Errorf("the torn lines are %q, %v", torn, err)
	}
}

func TestReopen(t *testing.T) {
	path := logPath(t)
	f := openFile(t, path, everySecond(t))
	record(t, f, controlEvent("one"))
	if err := f.Reopen(t.Context()); err != nil {
		t.Errorf("Reopen of the same file: %v", err)
	}
	record(t, f, controlEvent("two"))
	rotated := path + ".1"
	if err := os.Rename(path, rotated); err != nil {
		t.Fatal(err)
	}
	record(t, f, controlEvent("three")) // between the renaming and the signal

	if err := os.Mkdir(path, 0o700); err != nil { // no log can be there
		t.Fatal(err)
	}
	if err := f.Reopen(t.Context()); err == nil {
		t.Error("Reopen where a directory is")
	}
	record(t, f, controlEvent("four"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(t.Context()); err != nil {
		t.Fatalf("Reopen: %v", err)
	}
	record(t, f, controlEvent("five"))

	old, fresh := readLines(t, rotated), readLines(t, path)
	if len(old) != 4 || old[3].Reason != "four" || len(fresh) != 1 || fresh[0].Reason != "five" {
		t.Errorf("the old file holds %+v, the new one %+v", old, fresh)
	}
	if !strings.HasSuffix(fresh[0].ID, "-5") {
		t.Errorf("the numbers do not go on: %s", fresh[0].ID)
	}
	// The old file is released: it can be opened as a log of its own.
	openFile(t, rotated, SyncAlways())
}

// TestDeleted: a log whose file was deleted goes on in a new one, and refuses while there
// can be none.
func TestDeleted(t *testing.T) {
	path := logPath(t)
	f := openFile(t, path, everySecond(t))
	record(t, f, controlEvent("one"))
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	record(t, f, dataEvent(t))
	record(t, f, controlEvent("three"))
	if lines := readLines(t, path); len(lines) != 2 || lines[1].Reason != "three" || !strings.HasSuffix(lines[0].ID, "-2") {
		t.Errorf("the new file holds %+v", lines)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Record(t.Context(), dataEvent(t)); err == nil {
			t.Error("a record that is nowhere was confirmed")
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	record(t, f, controlEvent("last"))
	if lines := readLines(t, path); len(lines) != 1 || lines[0].Reason != "last" {
		t.Errorf("the third file holds %+v", lines)
	}
}

// TestReopenWhileRecording rotates again and again while records are made.
func TestReopenWhileRecording(t *testing.T) {
	path := logPath(t)
	f := openFile(t, path, SyncAlways())
	const recorders, each, rotations = 4, 40, 5
	var group sync.WaitGroup
	for range recorders {
		group.Go(func() {
			for range each {
				if err := f.Record(t.Context(), dataEvent(t)); err != nil {
					t.Errorf("Record: %v", err)
				}
			}
		})
	}
	total := 0
	for i := range rotations {
		if err := os.Rename(path, fmt.Sprint(path, ".", i)); err != nil {
			t.Fatal(err)
		}
		if err := f.Reopen(t.Context()); err != nil {
			t.Fatalf("Reopen: %v", err)
		}
	}
	group.Wait()
	for i := range rotations {
		total += len(readLines(t, fmt.Sprint(path, ".", i)))
	}
	if total += len(readLines(t, path)); total != recorders*each {
		t.Errorf("%d lines of %d records", total, recorders*each)
	}
}

func TestCancelledRecord(t *testing.T) {
	f := openFile(t, logPath(t), SyncAlways())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 { // a record can be faster than the look at its context
		if err := f.Record(ctx, dataEvent(t)); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Record: %v", err)
		}
	}
	record(t, f, dataEvent(t))
}

// BenchmarkRecord records batches from several goroutines.
func BenchmarkRecord(b *testing.B) {
	for _, how := range []Sync{everySecond(b), SyncAlways()} {
		for _, recorders := range []int{1, 64} {
			b.Run(fmt.Sprintf("sync=%v/recorders=%d", how, recorders), func(b *testing.B) {
				f := openFile(b, logPath(b), how)
				event := dataEvent(b)
				b.ReportAllocs()
				b.SetParallelism(max(1, recorders/2)) // on two cores
				if recorders == 1 {
					for b.Loop() {
						record(b, f, event)
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						record(b, f, event)
					}
				})
			})
		}
	}
}
