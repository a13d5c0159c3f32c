package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // for the command sql
)

// patience is how long anything may take before a script fails.
const patience = 30 * time.Second

// process is a program that runs beside a script.
type process struct {
	command *exec.Cmd
	log     string        // file of its standard error
	ended   chan struct{} // closed when it has ended; command.ProcessState is set then
}

type processesKey struct{}

func processNamed(ts *testscript.TestScript, name string) *process {
	processes, ok := ts.Value(processesKey{}).(map[string]*process)
	if !ok || processes[name] == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return processes[name]
}

func cmdStart(ts *testscript.TestScript, args []string) {
	cmdLaunch(ts, args)
	processNamed(ts, args[0]).await(ts, "kmsd is ready")
}

func cmdLaunch(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "PROGRAM")
	name := args[0]
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	log, err := os.OpenFile(ts.MkAbs(name+".log"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	ts.Check(err)
	out, err := os.OpenFile(ts.MkAbs(name+".out"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	ts.Check(err)
	command := exec.Command(path, args[2:]...)
	command.Args[0] = args[1]
	command.Dir = ts.MkAbs(".")
	command.Env = environment(ts)
	command.Stdout, command.Stderr = out, log
	ts.Check(command.Start())
	_, _ = out.Close(), log.Close()

	p := &process{command: command, log: log.Name(), ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = command.Wait() // the exit code is what exited looks at
	}()
	ts.Defer(func() {
		_ = command.Process.Kill() // has ended already, if all went well
		<-p.ended
	})
	processes, _ := ts.Value(processesKey{}).(map[string]*process)
	processes[name] = p
}

// await waits until the log contains the text.
func (p *process) await(ts *testscript.TestScript, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := poll(ctx, func() bool {
		return strings.Contains(p.logged(ts), text)
	}, p.ended)
	if err != nil && !strings.Contains(p.logged(ts), text) {
		ts.Fatalf("%q was not logged (%v):\n%s", text, err, p.logged(ts))
	}
}

func (p *process) logged(ts *testscript.TestScript) string {
	text, err := os.ReadFile(p.log)
	ts.Check(err)
	return string(text)
}

var errEnded = errors.New("the process has ended")

// poll waits until the condition holds, but not beyond ctx or the end of what it depends on.
func poll(ctx context.Context, condition func() bool, ended <-chan struct{}) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-ticker.C:
		case <-ended:
			return errEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func cmdSignal(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "SIGNAL")
	signals := map[string]os.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL,
	}
	ts.Check(processNamed(ts, args[0]).command.Process.Signal(signals[args[1]]))
}

func cmdExited(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "CODE")
	p := processNamed(ts, args[0])
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
	case <-timer.C:
		ts.Fatalf("%s does not end:\n%s", args[0], p.logged(ts))
	}
	if got := p.command.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d:\n%s", got, want, p.logged(ts))
	}
}

func cmdLogged(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "TEXT")
	processNamed(ts, args[0]).await(ts, args[1])
}

func cmdUnlogged(ts *testscript.TestScript, args []string) {
	need(ts, args, "NAME", "TEXT")
	if log := processNamed(ts, args[0]).logged(ts); strings.Contains(log, args[1]) {
		ts.Fatalf("%q was logged:\n%s", args[1], log)
	}
}

func cmdSQL(ts *testscript.TestScript, args []string) {
	need(ts, args, "FILE", "STATEMENT")
	db, err := sql.Open("sqlite", ts.MkAbs(args[0]))
	ts.Check(err)
	defer db.Close()
	result, err := db.Exec(args[1])
	ts.Check(err)
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		ts.Fatalf("the statement changed %d rows (%v)", n, err)
	}
}

func cmdPSQL(ts *testscript.TestScript, args []string) {
	need(ts, args, "STATEMENT")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, ts.Getenv("DSN"))
	ts.Check(err)
	defer func() { ts.Check(conn.Close(ctx)) }()
	for _, statement := range args {
		_, err := conn.Exec(ctx, statement)
		ts.Check(err)
	}
}

// address is where a process listens, as its log in JSON says.
func (p *process) address(ts *testscript.TestScript, network string) string {
	for line := range strings.Lines(p.logged(ts)) {
		var record struct{ Msg, Network, Address string }
		if json.Unmarshal([]byte(line), &record) == nil && record.Msg == "listening" && record.Network == network {
			return record.Address
		}
	}
	ts.Fatalf("the log names no %s listener:\n%s", network, p.logged(ts))
	return ""
}

func countLines(text, part string) (n int) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}
