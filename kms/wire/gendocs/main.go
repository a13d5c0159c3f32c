// Command gendocs writes docs/errors.md from the table of errors in package wire, so
// that the document cannot say anything else than the service does.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

func main() {
	out := flag.String("o", "", "the file to write")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1) //nolint:forbidigo // a program's own exit
	}
}

func write(file string) error {
	if file == "" {
		return errors.New("-o FILE is required")
	}
	page, err := errorsPage()
	if err != nil {
		return err
	}
	return os.WriteFile(file, page, 0o644) //nolint:gosec // a document, for everybody to read
}
