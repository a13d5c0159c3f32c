package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 2 * time.Minute // with thousands of objects in the token
	stopTimeout  = 30 * time.Second
)

// logFile is the name of a server's log in its directory.
const logFile = "server.log"

// ErrProcess is wrapped by the error of a process that does not start, or ends before it
// was told to.
var ErrProcess = errors.New("a process under test failed")

// process is a server under test, or its baseline. It logs JSON lines to standard error,
// of which "listening" names an address and "kmsd is ready" tells that clients may come.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    *serverLog
	ended  chan struct{} // closed when it has ended; err is set then
	err    error
	cancel context.CancelFunc
}

// startProcess starts a program and waits until it is ready. Its log goes to a file in dir.
func startProcess(ctx context.Context, dir, name string, env []string, path string, args ...string) (*process, error) {
	file, err := os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	life, cancel := context.WithCancel(ctx)
	p := &process{
		name: name, log: newServerLog(file), ended: make(chan struct{}), cancel: cancel,
		cmd: exec.CommandContext(life, path, args...), //nolint:gosec // the programs that the operator has named
	}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = stopTimeout
	if err := p.cmd.Start(); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrProcess, name, err), file.Close())
	}
	go func() {
		defer close(p.ended)
		p.err = errors.Join(p.cmd.Wait(), file.Close())
	}()
	if err := p.awaitReady(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *process) awaitReady(ctx context.Context) error {
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-p.log.ready:
		return nil
	case <-p.ended:
		p.cancel()
		return fmt.Errorf("%w: %s ended before it was ready: %v\n%s", ErrProcess, p.name, p.err, p.log.tail())
	case <-timer.C:
		p.stop()
		return fmt.Errorf("%w: %s is not ready after %v\n%s", ErrProcess, p.name, startTimeout, p.log.tail())
	case <-ctx.Done():
		p.stop()
		return ctx.Err()
	}
}

// stop tells the process to end and waits for it; after the stop timeout it is killed.
func (p *process) stop() {
	p.cancel()
	<-p.ended
}

// failed returns an error if the process has ended by itself.
func (p *process) failed() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%w: %s ended: %v\n%s", ErrProcess, p.name, p.err, p.log.tail())
	default:
		return nil
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// serverLog passes a log on to a file and reads what it tells. It is written by one
// goroutine, that of the process's standard error.
type serverLog struct {
	out   io.Writer
	ready chan struct{} // closed by the line that says so

	mu        sync.Mutex
	partial   []byte
	last      [][]byte          // lines, for errors
	addresses map[string]string // network to address
	isReady   bool
	token     tokenOpened
}

// tokenOpened is what the log tells of the token.
type tokenOpened struct {
	Label, Serial, Model, Module string
}

func newServerLog(out io.Writer) *serverLog {
	return &serverLog{out: out, ready: make(chan struct{}), addresses: map[string]string{}}
}

// Write takes a part of the log.
func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			break
		}
		l.line(bytes.Clone(line))
		l.partial = rest
	}
	return l.out.Write(p)
}

const keptLines = 20

func (l *serverLog) line(line []byte) {
	l.last = append(l.last, line)
	if len(l.last) > keptLines {
		l.last = l.last[1:]
	}
	if string(line) == "kmsd is ready." { // on the standard output of kmsd dev
		l.becomeReady()
		return
	}
	var record struct {
		Msg, Network, Address string
		tokenOpened
	}
	if json.Unmarshal(line, &record) != nil {
		return // not of the logger: a message of the C library, a stack
	}
	switch record.Msg {
	case "listening":
		l.addresses[record.Network] = record.Address
	case "token opened":
		l.token = record.tokenOpened
	case "kmsd is ready":
		l.becomeReady()
	}
}

func (l *serverLog) becomeReady() {
	if !l.isReady {
		l.isReady = true
		close(l.ready)
	}
}

// address is where the process listens on a network; "" if it does not.
func (l *serverLog) address(network string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addresses[network]
}

func (l *serverLog) openedToken() tokenOpened {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.token
}

func (l *serverLog) tail() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Join(l.last, []byte("\n"))
}
