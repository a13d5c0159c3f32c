package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// onceValue is the value of a flag that may be given once: of two input files one would be
// left out without a word. The global flags may be given again, as after an alias.
type onceValue struct {
	pflag.Value
	given bool
}

func (v *onceValue) Set(text string) error {
	if v.given {
		return errors.New("the flag is given twice")
	}
	v.given = true
	return v.Value.Set(text)
}

// setOnce has the flags of a command, and of those below it, be given once, but for those that
// take several values, and those without one.
func setOnce(cmd *cobra.Command) {
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, several := f.Value.(pflag.SliceValue); !several && f.NoOptDefVal == "" {
			f.Value = &onceValue{Value: f.Value}
			if f.DefValue == "0s" { // a duration that is not set, which the help no longer sees in the value's type
				f.DefValue = ""
			}
		}
	})
	for _, c := range cmd.Commands() {
		setOnce(c)
	}
}

// completes reports whether a shell asks what may come next: then the flags that are there
// already are parsed twice.
func completes(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}
