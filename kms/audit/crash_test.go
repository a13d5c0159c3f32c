package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestKilledWhileRecording kills a process in the midst of records, again and again on
// one log: whatever it had acknowledged is there afterwards.
func TestKilledWhileRecording(t *testing.T) {
	path := logPath(t)
	for round := range 5 {
		cmd := child(t, "record", path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := make(map[string]bool)
		lines := bufio.NewScanner(out)
		for len(acknowledged) < 20+30*round && lines.Scan() {
			acknowledged[lines.Text()] = true
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what was acknowledged before the kill arrived
			acknowledged[lines.Text()] = true
		}
		_ = cmd.Wait()
		if len(acknowledged) < 20 {
			t.Fatalf("the child acknowledged %d records", len(acknowledged))
		}

		closeFile(t, openFile(t, path, SyncAlways()))
		found := make(map[string]bool)
		for _, l := range readLines(t, path) {
			found[l.Reason] = true
		}
		for reason := range acknowledged {
			if !found[reason] {
				t.Errorf("the record %q was acknowledged and is missing", reason)
			}
		}
	}
}

// recordForEver is the child that records from several goroutines and says each record
// that was acknowledged.
func recordForEver(path string, say func(...any)) {
	how, err := ParseSync("1s")
	if err != nil {
		say(err)
		return
	}
	f, err := OpenFile(testConfig(path, how))
	if err != nil {
		say(err)
		return
	}
	reasons := make(chan string)
	for i := range 4 {
		go func() {
			for j := 0; ; j++ {
				reason := fmt.Sprintf("%s/%d/%d", f.writer.run, i, j)
				if err := f.Record(context.Background(), controlEvent(reason)); err != nil {
					reason = err.Error()
				}
				reasons <- reason
			}
		}()
	}
	for reason := range reasons {
		say(reason)
	}
}

// TestFileSizeLimit lets the kernel refuse to make the file larger, in the middle of a
// line, and then lifts the limit.
func TestFileSizeLimit(t *testing.T) {
	path := logPath(t)
	out, err := child(t, "limited", path).Output()
	if err != nil {
		t.Fatalf("the child: %v, %s", err, out)
	}
	var refused, acknowledged int
	if _, err := fmt.Sscanf(string(out), "refused %d acknowledged %d", &refused, &acknowledged); err != nil {
		t.Fatalf("the child says %q", out)
	}
	lines := readLines(t, path)
	if refused != 10 || acknowledged < 20 || len(lines) != acknowledged {
		t.Errorf("%d records were refused and %d acknowledged; the log holds %d", refused, acknowledged, len(lines))
	}
	for i, l := range lines {
		if _, number, _ := strings.Cut(l.ID, "-"); l.Reason != "kept" || number != strconv.Itoa(i+1) {
			t.Errorf("line %d is %+v", i+1, l)
		}
	}
}

// recordUntilLimit is the child that records under a limit on the size of its files.
func recordUntilLimit(path string, say func(...any)) {
	signal.Ignore(syscall.SIGXFSZ) // so that a write fails with EFBIG
	f, err := OpenFile(testConfig(path, SyncAlways()))
	if err != nil {
		say(err)
		return
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		say("getrlimit:", err)
		return
	}
	low := limit
	low.Cur = 5000
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &low); err != nil {
		say("setrlimit:", err)
		return
	}
	refused, acknowledged := 0, 0
	for refused < 10 {
		err := f.Record(context.Background(), controlEvent("kept"))
		switch {
		case err == nil:
			acknowledged++
		case errors.Is(err, syscall.EFBIG):
			refused++
		default:
			say("beyond the limit:", err)
			return
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		say("setrlimit:", err)
		return
	}
	for range 10 {
		if err := f.Record(context.Background(), controlEvent("kept")); err != nil {
			say("after the limit was lifted:", err)
			return
		}
		acknowledged++
	}
	if err := f.Close(context.Background()); err != nil {
		say("close:", err)
		return
	}
	say("refused", refused, "acknowledged", acknowledged)
}
