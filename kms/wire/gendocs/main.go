// Command gendocs writes docs/errors.md from the table of errors in package wire, so
// that the document cannot say anything else than the service does.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("o", "", "the file to write")
	flag.Parse()
	if *out == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := os.WriteFile(*out, errorsPage(), 0o644); err != nil { //nolint:gosec // a document, for everybody to read
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}
