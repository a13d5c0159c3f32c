package pgtest_test

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// Where doomedVariable is set, TestDoomed starts clusters and waits to be killed.
const doomedVariable = "KEYHOLT_PGTEST_DOOMED"

// announcement comes before what TestDoomed tells of a cluster: its DSN and its directory.
const announcement = "cluster:"

// TestGuard kills a test process that has servers: they end, and the directory goes.
func TestGuard(t *testing.T) {
	t.Parallel()
	doomed := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDoomed$", "-test.count=1")
	doomed.Env = append(os.Environ(), doomedVariable+"=yes")
	out, err := doomed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	dsn, home := readAnnouncement(t, bufio.NewScanner(out))
	conn := connect(t, dsn)
	if err := doomed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = doomed.Wait() // it was killed

	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := os.Stat(filepath.Dir(home)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the directory stays")
		case <-ticker.C:
		}
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection is still served")
	}
	if _, err := pgx.Connect(t.Context(), dsn); err == nil {
		t.Error("the server is still there")
	}
}

func readAnnouncement(t *testing.T, lines *bufio.Scanner) (dsn, home string) {
	t.Helper()
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == announcement {
			return fields[1], fields[2]
		}
	}
	t.Fatalf("the process tells nothing of its cluster: %v", lines.Err())
	return "", ""
}

// TestDoomed is the process that TestGuard kills. Run as any other test it only starts a
// cluster that was stopped and one that was killed, both of which end with it.
func TestDoomed(t *testing.T) {
	killed, stopped, running := pgtest.Start(t, pgtest.Fast()), pgtest.Start(t, pgtest.Fast()), pgtest.Start(t, pgtest.Fast())
	killed.Kill(t)
	stopped.Stop(t, pgtest.FastShutdown)
	if os.Getenv(doomedVariable) == "" {
		return
	}
	_, _ = os.Stdout.WriteString(announcement + " " + running.DSN("postgres") + " " + filepath.Dir(running.SocketDir()) + "\n")
	<-t.Context().Done()
}
