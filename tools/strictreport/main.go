// Command strictreport reads the events of `go test -json` on standard input and prints what
// plain `go test` would have printed. It exits non-zero if a test was skipped or none ran:
// a run that must be complete, as in CI, cannot rest on the exit status of `go test`, which counts
// a skipped test as passed.
//
// A failed test is not its concern beyond printing it: run it under `set -o pipefail`, so that the
// status of `go test` counts too.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "strictreport:", err)
		os.Exit(1)
	}
}

// event is one line of `go test -json` (see `go doc test2json`). A build event carries ImportPath
// where a test event carries Package.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

// testID names a test or subtest of one package.
type testID struct{ pkg, test string }

func (id testID) String() string { return id.pkg + "." + id.test }

// report holds the output of tests that have not ended, and what has been seen.
type report struct {
	out     *bufio.Writer
	pending map[testID][]string
	passed  int
	failed  int
	skipped []testID
}

// run prints the report of the events in r to w. It returns an error if a test was skipped, or if
// none was run.
func run(r io.Reader, w io.Writer) error {
	rep := &report{out: bufio.NewWriter(w), pending: make(map[testID][]string)}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			rep.line(line)
			if err := rep.out.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return rep.verdict()
		}
		if err != nil {
			return err
		}
	}
}

// line takes one line of input. What is no event, such as a message of the go command, is printed as it is.
func (rep *report) line(line string) {
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action == "" {
		rep.print(line)
		return
	}
	id := testID{e.Package, e.Test}
	switch {
	case e.Action == "build-output":
		rep.print(e.Output)
	case e.Action == "output" && e.Test == "":
		if e.Output != "PASS\n" { // plain go test prints it with -v only
			rep.print(e.Output)
		}
	case e.Action == "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			rep.pending[id] = append(rep.pending[id], e.Output)
		}
	case e.Test == "" && e.Action == "fail":
		rep.flushPackage(e.Package)
	case e.Test == "":
		// The start or the good end of a package: its own output has said so.
	case e.Action == "pass":
		rep.passed++
		delete(rep.pending, id)
	case e.Action == "fail":
		rep.failed++
		rep.flush(id)
	case e.Action == "skip":
		rep.skipped = append(rep.skipped, id)
		rep.flush(id)
	}
}

func (rep *report) print(s string) {
	rep.out.WriteString(s) //nolint:errcheck // bufio keeps the error: run sees it at Flush
}

// flush prints what a test has written, and forgets it.
func (rep *report) flush(id testID) {
	for _, s := range rep.pending[id] {
		rep.print(s)
	}
	delete(rep.pending, id)
}

// flushPackage prints the output of the tests of a failed package that never ended: a panic, an
// exit or a timeout is written there.
func (rep *report) flushPackage(pkg string) {
	var unfinished []testID
	for id := range rep.pending {
		if id.pkg == pkg {
			unfinished = append(unfinished, id)
		}
	}
	slices.SortFunc(unfinished, func(a, b testID) int { return strings.Compare(a.test, b.test) })
	for _, id := range unfinished {
		rep.flush(id)
	}
}

func (rep *report) verdict() error {
	if len(rep.skipped) > 0 {
		names := make([]string, len(rep.skipped))
		for i, id := range rep.skipped {
			names[i] = "\n  " + id.String()
		}
		return fmt.Errorf("%d tests were skipped, and none may be:%s", len(rep.skipped), strings.Join(names, ""))
	}
	if rep.passed+rep.failed == 0 {
		return errors.New("no test was run")
	}
	return nil
}
