package pgtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	startTimeout = 60 * time.Second // with recovery after a crash
	stopTimeout  = 60 * time.Second
	pollInterval = 5 * time.Millisecond
)

var errExited = errors.New("the server ended while it started")

// postmaster is one run of a server's first process, which this process started. It
// needs no goroutine: nothing of a shared cluster shows in a search for leaked ones.
type postmaster struct {
	pid int
	// alive is the reading end of a pipe whose writing end the postmaster and all of its
	// children hold, and nobody else: it ends when the last of them has.
	alive *os.File
	guard *guard
}

// launch starts a postmaster on a data directory; it writes its log to the end of a file.
func launch(ws *workspace, data, logFile string) (*postmaster, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	alive, held, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = held.Close() }()
	cmd := ws.account.command(data, ws.program("postgres"), "-D", data)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{held}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	p := &postmaster{pid: cmd.Process.Pid, alive: alive, guard: ws.guard}
	return p, errors.Join(cmd.Process.Release(), ws.guard.started(p.pid))
}

// awaitReady waits until the server accepts connections, read-only ones on a standby.
func (p *postmaster) awaitReady(data string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); <-ticker.C {
		if p.ready(data) {
			return nil
		}
		if p.ended(time.Now().Add(time.Millisecond)) == nil {
			return errors.Join(errExited, p.reap())
		}
	}
	return errors.Join(fmt.Errorf("the server was not ready within %v", startTimeout), p.stop(syscall.SIGQUIT))
}

// The lines of postmaster.pid that we read, by index
// (src/include/utils/pidfile.h of PostgreSQL).
const (
	linePID    = 0
	lineMemory = 6 // key and id of the System V shared memory segment
	lineStatus = 7
)

func pidFile(data string) string { return filepath.Join(data, "postmaster.pid") }

// ready reads from the server's own file, as pg_ctl does, whether it is ready.
func (p *postmaster) ready(data string) bool {
	content, err := os.ReadFile(pidFile(data))
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	return len(lines) > lineStatus && lines[linePID] == strconv.Itoa(p.pid) &&
		strings.TrimSpace(lines[lineStatus]) == "ready"
}

// stop sends a signal and waits until the postmaster and all of its children are gone.
func (p *postmaster) stop(signal syscall.Signal) error {
	if err := syscall.Kill(p.pid, signal); err != nil {
		return fmt.Errorf("sending %v to the server: %w", signal, err)
	}
	err := p.ended(time.Now().Add(stopTimeout))
	if err != nil {
		err = errors.Join(err, syscall.Kill(p.pid, syscall.SIGKILL))
	}
	return errors.Join(err, p.reap())
}

// ended waits until no process of the server is left, at most until a time.
func (p *postmaster) ended(deadline time.Time) error {
	if err := p.alive.SetReadDeadline(deadline); err != nil {
		return err
	}
	if _, err := p.alive.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("processes of the server are left: %w", err)
	}
	return nil
}

// reap takes the exit status of a postmaster that has ended; how it ended, its log tells.
func (p *postmaster) reap() error {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.pid, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		return errors.Join(err, p.guard.stopped(p.pid), p.alive.Close())
	}
}
