package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keyholt/keyholt/kms"
)

// docs/kmsctl.md tells of every command and every flag.
func TestDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../docs/kmsctl.md")
	if err != nil {
		t.Fatal(err)
	}
	document := string(text)
	commands := 0
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Runnable() && !cmd.HasSubCommands() {
			commands++
			if path := cmd.CommandPath(); !strings.Contains(document, "`"+path) {
				t.Errorf("%s is not in docs/kmsctl.md", path)
			}
		}
		check := func(flag *pflag.Flag) {
			if !strings.Contains(document, "`--"+flag.Name) {
				t.Errorf("%s --%s is not in docs/kmsctl.md", cmd.CommandPath(), flag.Name)
			}
		}
		cmd.LocalFlags().VisitAll(check)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&app{}))
	if commands < 20 {
		t.Errorf("only %d commands were found", commands)
	}
	shortest := kms.MinRotationPeriod.String()
	if !strings.Contains(document, "shortest rotation period is `"+shortest+"`") || !strings.Contains(rotationPeriodHelp, "at least "+shortest) {
		t.Errorf("the shortest rotation period, %s, is not in docs/kmsctl.md and the help", shortest)
	}
	for _, setting := range settingsTable {
		if !strings.Contains(document, "`"+setting.variable+"`") {
			t.Errorf("%s is not in docs/kmsctl.md", setting.variable)
		}
	}
}
