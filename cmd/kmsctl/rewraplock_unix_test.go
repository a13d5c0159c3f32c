//go:build unix

package main

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"os"
	"strings"
	"testing"
)

// A run that opened the unfinished output of another, and comes to lock it only when that one
// has ended, leaves the output alone that it has become, and what is no longer there.
func TestOutputOfARunThatEnded(t *testing.T) {
	for name, end := range map[string]func(*lineWriter) error{"finished": (*lineWriter).finish, "stopped": (*lineWriter).stop} {
		t.Run(name, func(t *testing.T) {
			w := &world{T: t, dir: t.TempDir()}
			r := &rewrapper{a: &app{}, flags: &rewrapFlags{out: w.file("out")}}
			input := func() *lineReader { return &lineReader{r: bufio.NewReader(strings.NewReader("")), sum: sha256.New()} }
			first, err := r.openLines(input(), newTally("ciphertext"))
			w.must(err)
			_, err = first.w.WriteString("done\n")
			w.must(err)
			file, err := os.OpenFile(w.file("out")+".partial", os.O_RDWR, 0)
			w.must(err)
			defer func() { w.must(file.Close()) }()
			second := &lineWriter{out: &outFile{Writer: file, file: file}, state: w.file("out") + ".partial-state"}
			if err := second.resume(r, input(), newTally("ciphertext")); !errors.Is(err, errBusy) {
				t.Errorf("while the first run works: %v", err)
			}
			w.must(end(first))
			if err := second.resume(r, input(), newTally("ciphertext")); !errors.Is(err, errChanged) {
				t.Errorf("when the first run has ended: %v", err)
			}
			if name == "finished" && w.read("out") != "done\n" {
				t.Errorf("the output holds %q", w.read("out"))
			}
		})
	}
}

// The lock, which outlives the closing of the file, ends with the run.
func TestLockEndsWithTheRun(t *testing.T) {
	w := &world{T: t, dir: t.TempDir()}
	r := &rewrapper{a: &app{}, flags: &rewrapFlags{out: w.file("out")}}
	lines, err := r.openLines(&lineReader{r: bufio.NewReader(strings.NewReader("")), sum: sha256.New()}, newTally("ciphertext"))
	w.must(err)
	other, err := os.OpenFile(w.file("out")+".partial", os.O_RDWR, 0)
	w.must(err)
	defer func() { w.must(other.Close()) }()
	w.must(lines.finish())
	w.must(lockFile(other)) // nothing holds it for longer
	if err := checkNamed(other); !errors.Is(err, errChanged) {
		t.Errorf("a file that has another name by now: %v", err)
	}
}
