package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// counting counts rewraps, and holds all but the first batch up until it is told not to.
type counting struct {
	kms.API
	first   []byte // of the first batch
	refuses bool   // it refuses them instead
	items   atomic.Int64
	free    atomic.Bool
}

// holding counts in front of a service; line is the first one that is to come.
func (w *world) holding(line string) *counting {
	w.Helper()
	first, err := base64.StdEncoding.DecodeString(line)
	w.must(err)
	return &counting{API: w.service, first: first}
}

func (c *counting) RewrapDataKeys(ctx context.Context, p kms.Principal, r *kms.RewrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	c.items.Add(int64(len(r.Items)))
	if !c.free.Load() && !bytes.Equal(r.Items[0].Wrapped, c.first) {
		if c.refuses {
			return nil, &kms.Error{Sentinel: kms.ErrUnauthenticated}
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return c.API.RewrapDataKeys(ctx, p, r)
}

// kill starts the real program, kills it when it has durably done some of the work, and
// returns how many lines those are.
func (w *world) kill(args ...string) int {
	w.Helper()
	program, err := exec.LookPath("kmsctl") // which TestMain has put there
	w.must(err)
	cmd := exec.CommandContext(w.Context(), program, args...)
	cmd.Env = append(os.Environ(), profileVariable+"="+w.profile)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	w.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		var mark resumeMark
		text, err := os.ReadFile(w.file("out.partial-state"))
		if err == nil && json.Unmarshal(text, &mark) == nil && mark.Lines > 0 {
			w.must(cmd.Process.Kill())
			if err := <-ended; err == nil {
				w.Error("the program was through before it was killed")
			}
			return mark.Lines
		}
		select {
		case err := <-ended:
			w.Fatalf("the program has ended: %v\n%s", err, &stderr)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A run that was killed goes on where it stopped, and does nothing twice that was safe.
func TestRewrapGoesOnAfterAKill(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	lines := append(w.blobs("orders", 4096), w.blobs("orders", 2000)...)
	before := w.unwrapped(lines)
	w.ok(words("rotate orders")...)
	api := w.holding(lines[0])
	held := &world{T: t, dir: t.TempDir()}
	held.serve(api)
	in := held.write("in", strings.Join(lines, "\n")+"\n")
	args := []string{"rewrap", "--in", in, "--out", held.file("out"), "--key", "orders"}

	safe := held.kill(args...)
	if safe != rewrapBatch {
		t.Fatalf("%d lines were done of %d", safe, len(lines))
	}
	if _, err := os.Stat(held.file("out")); err == nil {
		t.Error("the output is there before it is complete")
	}
	// What was written after the state is not trusted.
	partial, err := os.OpenFile(held.file("out.partial"), os.O_APPEND|os.O_WRONLY, 0)
	held.must(err)
	_, err = partial.WriteString("half a li")
	held.must(err)
	held.must(partial.Close())

	// Another input does not go on with this output.
	other := held.write("other", strings.Join(lines[1:], "\n")+"\n")
	held.fails(exitFailure, []string{"rewrap", "--in", other, "--out", held.file("out")}, "of another input", "--restart")

	api.items.Store(0)
	api.free.Store(true)
	_, stderr, code := held.exit("", args...)
	if code != exitOK || !strings.Contains(stderr, "going on after line") {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	if sent := int(api.items.Load()); sent != len(lines)-safe {
		t.Errorf("%d lines were sent again, want %d", sent, len(lines)-safe)
	}
	out := strings.Split(strings.TrimSpace(held.read("out")), "\n")
	if len(out) != len(lines) || w.unwrapped(out) != before {
		t.Error("the data keys are not the same")
	}
	old := w.uidOf(lines[0])
	for i, text := range out {
		if w.uidOf(text) == old {
			t.Fatalf("line %d is under the old version", i+1)
		}
	}
	for _, name := range []string{"out.partial", "out.partial-state"} {
		if _, err := os.Stat(held.file(name)); err == nil {
			t.Errorf("%s was left behind", name)
		}
	}
}

// An interrupted run says how to go on, and --restart begins anew.
func TestRewrapInterrupted(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	lines := w.blobs("orders", 4096)
	w.ok(words("rotate orders")...)
	api := w.holding(lines[0])
	api.refuses = true
	held := &world{T: t, dir: t.TempDir()}
	held.serve(api)
	in := held.write("in", strings.Join(lines, "\n")+"\n")
	args := []string{"rewrap", "--in", in, "--out", held.file("out")}
	held.fails(exitFailure, args, "stopped: 1024 rewrapped", "goes on where it stopped")
	api.items.Store(0)
	api.free.Store(true)
	held.ok(append(args, "--restart")...)
	if sent := api.items.Load(); sent != int64(len(lines)) {
		t.Errorf("%d lines were sent, want all", sent)
	}
}

// unsteady cannot serve the first calls.
type unsteady struct {
	kms.API
	failures int
}

func (u *unsteady) RewrapDataKeys(ctx context.Context, p kms.Principal, r *kms.RewrapDataKeysRequest) ([]kms.DataKeyResult, error) {
	u.failures--
	results, err := u.API.RewrapDataKeys(ctx, p, r)
	switch {
	case u.failures > 3:
		return nil, &kms.Error{Sentinel: kms.ErrOverloaded}
	case u.failures > 0:
		results[0] = kms.DataKeyResult{Err: &kms.Error{Sentinel: kms.ErrTokenUnavailable}}
	}
	return results, err
}

// A service that cannot serve for a moment costs time, and nothing else.
func TestRewrapIsPatient(t *testing.T) {
	w := newWorld(t)
	w.ok(words("key create orders")...)
	lines := w.blobs("orders", 10)
	w.ok(words("rotate orders")...)
	held := &world{T: t, dir: t.TempDir()}
	held.serve(&unsteady{API: w.service, failures: 6})
	out := strings.Split(held.okWith(strings.Join(lines, "\n")+"\n", "rewrap"), "\n")
	for i, text := range lines {
		if out[i] == text {
			t.Errorf("line %d was not rewrapped", i+1)
		}
	}
}
