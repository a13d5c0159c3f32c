package prove

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// lease is that of all replicas.
const lease = time.Second

const (
	startTimeout = time.Minute // a start reads what every version's object is
	stopTimeout  = 30 * time.Second
)

// replica is one kmsd and the clients of it. It is started and stopped by one goroutine.
type replica struct {
	name    string
	index   int
	dir     string
	env     []string
	link    *link // to the store; nil: none that can be disturbed
	profile client.Profile

	// load and control are connections of their own: what waits on one does not hold up
	// the other. Neither repeats a call by itself: what is counted is each attempt.
	load, control kms.API

	command *exec.Cmd
	ended   chan struct{} // closed when the process has ended
}

// connect makes the clients, which connect by themselves when the server is there again.
func (r *replica) connect(t *testing.T) {
	t.Helper()
	soon := grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.2, MaxDelay: 200 * time.Millisecond},
		MinConnectTimeout: 2 * time.Second,
	}
	for _, api := range []*kms.API{&r.load, &r.control} {
		c, err := client.Dial(t.Context(), r.profile, client.WithDialOptions(
			grpc.WithDisableRetry(), grpc.WithConnectParams(soon)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() }) // calls have ended or do not matter
		*api = c.API()
	}
}

func (r *replica) logFile() string   { return filepath.Join(r.dir, "log.jsonl") }
func (r *replica) auditFile() string { return filepath.Join(r.dir, "data", "audit.jsonl") }

// start starts the process; awaitServing tells when it serves. It is killed at the end of
// the test if it still runs.
func (r *replica) start(t *testing.T) {
	t.Helper()
	if err := r.launch(t, "serve", "--config", filepath.Join(r.dir, "kmsd.yaml")); err != nil {
		t.Fatalf("%s: %v", r.name, err)
	}
}

func (r *replica) launch(t *testing.T, args ...string) error {
	log, err := os.OpenFile(r.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own handle
	command := exec.Command(server(t), args...)
	command.Env = r.env
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = dieWithParent()
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = command.Wait() // how it ended, its state tells
	}()
	r.command, r.ended = command, ended
	t.Cleanup(func() {
		_ = command.Process.Kill() // has ended already, if all went well
		<-ended
	})
	return nil
}

// run runs another command of the program with the replica's configuration.
func (r *replica) run(t *testing.T, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), server(t), append(args, "--config", filepath.Join(r.dir, "kmsd.yaml"))...)
	command.Env = r.env
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("kmsd %v: %v\n%s", args, err, text)
	}
}

// signal sends a signal to the process.
func (r *replica) signal(s syscall.Signal) error {
	if err := r.command.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: %v: %w", r.name, s, err)
	}
	return nil
}

// kill ends the process at once, without a chance to say anything.
func (r *replica) kill() error {
	err := r.signal(syscall.SIGKILL)
	<-r.ended
	return err
}

// stop ends the process in order.
func (r *replica) stop(t *testing.T) {
	t.Helper()
	if err := r.signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-r.ended:
		if code := r.command.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ended with exit code %d", r.name, code)
		}
	case <-timer.C:
		t.Errorf("%s does not end", r.name)
	}
}

// running fails the test if the process has ended by itself.
func (r *replica) running() error {
	select {
	case <-r.ended:
		return fmt.Errorf("%s has ended: %v", r.name, r.command.ProcessState)
	default:
		return nil
	}
}

// awaitServing waits until a call is served, and returns how long that took.
func (r *replica) awaitServing(ctx context.Context, probe func(context.Context, *replica) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	began := time.Now()
	for {
		attempt, end := context.WithTimeout(ctx, time.Second)
		err := probe(attempt, r)
		end()
		if err == nil {
			return time.Since(began), nil
		}
		if gone := r.running(); gone != nil {
			return 0, gone
		}
		if !pause(ctx, 10*time.Millisecond) {
			return 0, fmt.Errorf("%s does not serve: %w", r.name, err)
		}
	}
}
