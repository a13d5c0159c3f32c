// Command genpgo writes cmd/kmsd/default.pgo, the profile that go build optimises kmsd with. It is no record of a run:
// it names the few calls that must be inlined although the compiler finds them too large, see [hints].
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

//go:generate go run . -o ../default.pgo

func main() {
	out := flag.String("o", "", "the file to write")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "genpgo:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	if file == "" {
		return errors.New("-o FILE is required")
	}
	var edges []edge
	for _, h := range hints() {
		found, err := h.edges()
		if err != nil {
			return err
		}
		edges = append(edges, found...)
	}
	return os.WriteFile(file, profile(edges), 0o644) //nolint:gosec // as public as the source
}
