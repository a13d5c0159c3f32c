package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// wanted is how many records the demonstration has.
const wanted = 10_000

var errEnough = errors.New("enough records")

// collect writes a CSV file of comment lines from the sources of the Go distribution:
// number, file, line, text.
func collect(path string) (err error) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := csv.NewWriter(file)
	number := 0
	root := filepath.Join(strings.TrimSpace(string(goroot)), "src")
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return eachComment(path, func(line int, text string) error {
			if number == wanted {
				return errEnough
			}
			number++
			return out.Write([]string{strconv.Itoa(number), relative, strconv.Itoa(line), text})
		})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return err
	}
	if number < wanted {
		return fmt.Errorf("%s has only %d comment lines", root, number)
	}
	fmt.Printf("collected %d records\n", number)
	return nil
}

// eachComment calls do for each comment line of some length.
func eachComment(path string, do func(line int, text string) error) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		if text, isComment := strings.CutPrefix(lines.Text(), "// "); isComment && len(text) > 40 {
			if err := do(n, text); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}
