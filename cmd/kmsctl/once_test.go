package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// The help names a default once, and no duration that is not set.
func TestDefaultsInTheHelp(t *testing.T) {
	seen := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.LocalFlags().FlagUsages()) {
			seen++
			if strings.Contains(line, "(default 0s)") || strings.Count(line, "(default") > 1 {
				t.Errorf("%s: %s", cmd.CommandPath(), line)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	root := newRoot(&app{})
	walk(root)
	if seen < 50 {
		t.Errorf("only %d flags were found", seen)
	}
	if usage := root.PersistentFlags().FlagUsages(); !strings.Contains(usage, "(default 30s)") {
		t.Errorf("the default of --timeout is not told:\n%s", usage)
	}
}

// A shell is told what may follow a flag that was given, which is parsed twice for that.
func TestCompletionAfterAFlag(t *testing.T) {
	for _, request := range []string{cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), []string{request, "encrypt", "orders", "--in", "a", "--ou"}, &app{
			stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr,
			getenv:   func(string) string { return "" },
			terminal: func(any) bool { return false },
		})
		if code != exitOK || !strings.Contains(stdout.String(), "--out") {
			t.Errorf("%s: exit code %d, %q, %q", request, code, stdout.String(), stderr.String())
		}
	}
}
