//go:build unix

package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
)

// Input and output may be one file.
func TestInPlace(t *testing.T) {
	w := newWorld(t)
	w.ok("key", "create", "orders")
	path := w.write("data", "attack at dawn")
	w.ok("encrypt", "orders", "--in", path, "--out", path, "--force")
	w.ok("decrypt", "--in", path, "--out", path, "--force")
	if got := w.read("data"); got != "attack at dawn" {
		t.Errorf("the file holds %q", got)
	}
}

// A named pipe whose other end nobody opens, or says anything into, does not keep kmsctl from
// ending when it is interrupted.
func TestInterruptedAtNamedPipe(t *testing.T) {
	w := newWorld(t)
	w.ok("key", "create", "orders")
	silent, data := w.file("silent"), w.write("data", "attack at dawn")
	for _, pipe := range []string{w.file("pipe"), silent} {
		w.must(syscall.Mkfifo(pipe, 0o600))
	}
	held, err := os.OpenFile(silent, os.O_RDWR, 0) // both ends
	w.must(err)
	t.Cleanup(func() { w.must(held.Close()) })
	_, err = held.WriteString("something else") // and no end of it
	w.must(err)
	w.fails(exitFailure, []string{"decrypt", "--in", silent}, "nothing that")
	w.fails(exitUsage, []string{"rewrap", silent}, "silent is no regular file")

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, files := range [][]string{
		{"--in", w.file("pipe"), "--out", w.file("out")},
		{"--in", silent, "--out", w.file("out")},
		{"--in", data, "--out", w.file("pipe")},
	} {
		var stderr bytes.Buffer
		code := run(ctx, append([]string{"encrypt", "orders", "--client-profile", w.profile}, files...), &app{
			stdin: strings.NewReader(""), stdout: new(bytes.Buffer), stderr: &stderr,
			getenv:   func(string) string { return "" },
			terminal: func(any) bool { return false },
		})
		if code != exitFailure || !strings.Contains(stderr.String(), "interrupted") {
			t.Errorf("%v: exit code %d, %s", files, code, stderr.String())
		}
	}
}
