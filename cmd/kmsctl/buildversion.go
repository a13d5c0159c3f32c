package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
)

// build says which kmsctl this is.
type build struct {
	Version  string `json:"version" yaml:"version"`
	Revision string `json:"revision" yaml:"revision"`
	Go       string `json:"go" yaml:"go"`
	Platform string `json:"platform" yaml:"platform"`
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version of kmsctl (doctor shows the service's)",
		Args:  between(0, 0),
		RunE:  a.local(func(context.Context, []string) error { return showVersion(a) }),
	}
}

// addVersionFlag gives the program itself --version, which many expect: the same as the
// command.
func addVersionFlag(a *app, root *cobra.Command) {
	version := root.Flags().Bool("version", false, "the same as the command version")
	otherwise := root.RunE
	show := a.local(func(context.Context, []string) error { return showVersion(a) })
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *version {
			return show(cmd, args)
		}
		return otherwise(cmd, args)
	}
}

func showVersion(a *app) error {
	b := thisBuild()
	if a.structured() {
		return a.encode(b)
	}
	w := newTable()
	w.AppendRows([]table.Row{
		{"version", b.Version}, {"revision", b.Revision}, {"go", b.Go}, {"platform", b.Platform},
	})
	return a.render(w)
}

func thisBuild() build {
	b := build{
		Version: "unknown", Revision: "unknown",
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			b.Revision = setting.Value
		}
	}
	return b
}
