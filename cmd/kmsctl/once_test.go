package main

import (
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
