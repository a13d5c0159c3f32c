package main

import "github.com/spf13/cobra"

// configFlags are the flags of commands that look at one part of a configuration.
type configFlags struct {
	path string
	json bool
}

func (f *configFlags) addTo(command *cobra.Command) {
	command.Flags().StringVar(&f.path, "config", "", "configuration `file` (required)")
	command.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

// load reads the configuration.
func (f *configFlags) load(cmd *cobra.Command) (*config, error) {
	if f.path == "" {
		return nil, usageError("%s needs --config FILE", cmd.CommandPath())
	}
	c, _, err := loadConfig(f.path)
	return c, err
}
