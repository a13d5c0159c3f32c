package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms/keystore"
)

// The commands below migrate open the store that a configuration names, and nothing else of
// it: neither the data directory is locked nor the token opened.

func migrateCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "migrate",
		Short: "Look after the schema of the store",
		Args:  cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %q; see %s --help", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	command.AddCommand(migrateStatusCommand(), migrateUpCommand())
	return command
}

func migrateStatusCommand() *cobra.Command {
	var flags configFlags
	command := &cobra.Command{
		Use:   "status --config FILE",
		Short: "Say which schema the store has, and which this release needs",
		Long: "Says which schema the store has, and which this release needs. If they differ the exit code is 78.\n" +
			"It changes nothing. A SQLite store must not be in use; a PostgreSQL store may be.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.store(cmd)
			if err != nil {
				return err
			}
			status, err := schemaStatus(cmd.Context(), c)
			if err != nil {
				return err
			}
			if err := status.print(cmd.OutOrStdout(), flags.json); err != nil {
				return err
			}
			return status.fits()
		},
	}
	flags.addTo(command)
	return command
}

func migrateUpCommand() *cobra.Command {
	var flags configFlags
	command := &cobra.Command{
		Use:   "up --config FILE",
		Short: "Bring the schema of the store up to the one that this release needs",
		Long: "Brings the schema of the store up to the one that this release needs. Before it, stop every server that\n" +
			"uses the store and make a backup: there is no way back but to restore it. A database that holds no store\n" +
			"yet gets its tables. To repeat it does nothing.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := flags.store(cmd)
			if err != nil {
				return err
			}
			from, _, err := keystore.Migrate(cmd.Context(), c)
			if err != nil {
				return err
			}
			status, err := schemaStatus(cmd.Context(), c)
			if err != nil {
				return err
			}
			status.before(from)
			return status.print(cmd.OutOrStdout(), flags.json)
		},
	}
	flags.addTo(command)
	return command
}

// store returns where the store of the configuration is.
func (f *configFlags) store(cmd *cobra.Command) (keystore.Config, error) {
	c, err := f.load(cmd)
	if err != nil {
		return keystore.Config{}, err
	}
	return c.Store.keystore()
}

// The states of a schema.
const (
	schemaNone    = "none"    // the database holds no store yet
	schemaBehind  = "behind"  // kmsd migrate up is needed
	schemaCurrent = "current" // it is the one that this release needs
	schemaAhead   = "ahead"   // a later release is needed
)

// schemaReport is what the commands print.
type schemaReport struct {
	Driver   string   `json:"driver"`
	Location string   `json:"location"` // without a password
	Schema   int64    `json:"schema"`   // 0: none
	Needed   int64    `json:"needed"`   // by this release
	State    string   `json:"state"`
	Applied  []string `json:"applied"` // by this command
	Pending  []string `json:"pending"`

	known []keystore.Migration
}

func schemaStatus(ctx context.Context, c keystore.Config) (*schemaReport, error) {
	status, err := keystore.MigrationStatus(ctx, c)
	if err != nil {
		return nil, err
	}
	r := &schemaReport{
		Driver: c.Driver, Location: c.Location(), Schema: status.Current, Needed: status.Target, State: schemaCurrent,
		Applied: []string{}, Pending: []string{}, known: status.Migrations,
	}
	switch {
	case r.Schema == 0:
		r.State = schemaNone
	case r.Schema < r.Needed:
		r.State = schemaBehind
	case r.Schema > r.Needed:
		r.State = schemaAhead
	}
	for _, m := range r.known {
		if m.Schema > r.Schema {
			r.Pending = append(r.Pending, m.Name)
		}
	}
	return r, nil
}

// before notes which schema the store had.
func (r *schemaReport) before(schema int64) {
	for _, m := range r.known {
		if m.Schema > schema && m.Schema <= r.Schema {
			r.Applied = append(r.Applied, m.Name)
		}
	}
}

// fits returns an error unless this release can use the store.
func (r *schemaReport) fits() error {
	switch r.State {
	case schemaNone, schemaBehind:
		return as(errConfiguration, fmt.Errorf("the store has schema %d, but this release needs %d: run kmsd migrate up", r.Schema, r.Needed))
	case schemaAhead:
		return as(errConfiguration, fmt.Errorf("the store has schema %d, but this release knows no later one than %d: run a later release",
			r.Schema, r.Needed))
	}
	return nil
}

func (r *schemaReport) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, r)
	}
	schema := strconv.FormatInt(r.Schema, 10)
	if r.Schema == 0 {
		schema = "none"
	}
	var b strings.Builder
	for _, row := range [...]struct{ name, value string }{
		{"store", r.Driver + ": " + r.Location},
		{"schema", schema},
		{"needed", strconv.FormatInt(r.Needed, 10)},
		{"applied", strings.Join(r.Applied, ", ")},
		{"pending", strings.Join(r.Pending, ", ")},
	} {
		if row.value != "" {
			_, _ = fmt.Fprintf(&b, "%-10s%s\n", row.name, row.value)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
