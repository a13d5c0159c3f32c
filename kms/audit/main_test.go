package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// childVariable makes the test binary do one of children instead of running tests; the
// log's path is the first argument. A child says lines to its parent.
const childVariable = "AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	children := map[string]func(path string, say func(...any)){
		"record":  recordForEver,
		"limited": recordUntilLimit,
	}
	if child := children[os.Getenv(childVariable)]; child != nil {
		child(os.Args[1], func(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) })
		return
	}
	m.Run()
}

// child returns a command that runs one of children on the log.
func child(t *testing.T, name, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], path)
	cmd.Env = append(os.Environ(), childVariable+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

var errRefused = errors.New("refused")

// testReason names the errors of the tests.
func testReason(err error) string {
	if errors.Is(err, errRefused) {
		return "REFUSED"
	}
	return "UNKNOWN"
}

func testConfig(path string, how Sync) Config {
	return Config{Path: path, Sync: how, Reason: testReason, Logger: slog.New(slog.DiscardHandler)}
}

func logPath(t testing.TB) string { return filepath.Join(t.TempDir(), "audit.jsonl") }

// everySecond is the laxest policy.
func everySecond(t testing.TB) Sync {
	t.Helper()
	how, err := SyncEvery(time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return how
}

func openFile(t testing.TB, path string, how Sync) *File {
	t.Helper()
	f, err := OpenFile(testConfig(path, how))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeFile(t, f) })
	return f
}

func closeFile(t testing.TB, f *File) {
	t.Helper()
	if err := f.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Errorf("Close: %v", err)
	}
}

func record(t testing.TB, f *File, event *kms.Event) {
	t.Helper()
	if err := f.Record(t.Context(), event); err != nil {
		t.Fatalf("Record: %v", err)
	}
}

func versionName(t testing.TB, name string) kms.VersionName {
	t.Helper()
	v, err := kms.ParseVersionName(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func jobName(t testing.TB, name string) kms.ImportJobName {
	t.Helper()
	j, err := kms.ParseImportJobName(name)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// dataEvent is an unwrap of a batch with one refused item.
func dataEvent(t testing.TB) *kms.Event {
	t.Helper()
	version := versionName(t, "namespaces/shop/keys/orders/versions/7")
	return &kms.Event{
		Time:      time.Date(2026, 3, 29, 2, 30, 15, 123456789, time.FixedZone("CEST", 2*60*60)),
		Principal: kms.Principal{Name: "unix:1000", Method: kms.MethodUnix, UID: 1000},
		Action:    kms.ActionUnwrapDataKey,
		Namespace: version.Key().Namespace(),
		Context:   map[string]string{"tenant": "a", "purpose": "backup"},
		Items: []kms.ItemEvent{
			{Count: 1023, Version: version},
			{Count: 1, Version: version, Context: map[string]string{}, Err: errRefused},
		},
	}
}

// controlEvent is the rotation of a key.
func controlEvent(reason string) *kms.Event {
	return &kms.Event{
		Time:      time.Unix(0, 0),
		Principal: kms.Principal{Name: "x509:CN=ops", Method: kms.MethodTLS, Address: "[::1]:4711"},
		Action:    kms.ActionRotateKey,
		Resource:  "namespaces/shop/keys/orders",
		Reason:    reason,
	}
}

// line is a record as a reader of the log sees it.
type line struct {
	ID, Reason string
}

// readLines reads a log that must consist of whole records.
func readLines(t testing.TB, path string) []line {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		t.Errorf("the log does not end with a newline")
	}
	var lines []line
	scanner := bufio.NewScanner(bytes.NewReader(text))
	scanner.Buffer(nil, len(text)+1)
	for scanner.Scan() {
		var l line
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			t.Fatalf("line %d: %v: %q", len(lines)+1, err, scanner.Text())
		}
		lines = append(lines, l)
	}
	return lines
}
