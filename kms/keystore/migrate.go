package keystore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"io/fs"
	"path"
	"time"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*/*.sql
var migrationFiles embed.FS

// schemaTable is where goose records which migrations the store has seen.
const schemaTable = "schema_versions"

// firstSchema is the oldest schema that a store can be brought up from. Those before
// were of development versions.
const firstSchema = 2

// SchemaStatus is which schema a store has, and which this program knows.
type SchemaStatus struct {
	// Current is the number of the store's schema; 0: the database holds no store yet.
	Current int64
	// Target is the number of the newest schema that this program knows.
	Target int64
	// Migrations are the steps that this program knows, in order.
	Migrations []Migration
}

// Migration is one step of the schema.
type Migration struct {
	Schema  int64
	Name    string    // of its file
	Applied time.Time // zero: not yet
}

// Migrate brings the schema of a store, or of an empty database, up to the one of this
// program, and returns the numbers of the schema before and after. Errors are those of
// Open.
func Migrate(ctx context.Context, c Config) (from, to int64, err error) {
	d, err := connect(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	provider, err := newProvider(d.dialect, d.connection.db)
	if err != nil {
		return 0, 0, err
	}
	from, to, err = schemas(ctx, provider)
	if err != nil {
		return from, from, err
	}
	return from, to, up(ctx, provider, from, to)
}

// MigrationStatus tells which schema a store has. It changes nothing in a store; in a
// database that holds none it may leave an empty table of migrations. Errors are those
// of Open; a schema that Open refuses is none.
func MigrationStatus(ctx context.Context, c Config) (status *SchemaStatus, err error) {
	d, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	provider, err := newProvider(d.dialect, d.connection.db)
	if err != nil {
		return nil, err
	}
	status = new(SchemaStatus)
	status.Current, status.Target, err = provider.GetVersions(ctx)
	if err != nil {
		return nil, unavailable(err, "cannot read the schema version of the store: %v", err)
	}
	steps, err := provider.Status(ctx)
	if err != nil {
		return nil, unavailable(err, "cannot read the schema version of the store: %v", err)
	}
	for _, step := range steps {
		status.Migrations = append(status.Migrations, Migration{
			Schema: step.Source.Version, Name: path.Base(step.Source.Path), Applied: step.AppliedAt,
		})
	}
	return status, nil
}

// checkSchema sets up an empty database, and refuses a store that has another schema than
// this program's: one of a later release, of whose rows nothing is known, and one of
// an earlier release, which only an operator takes from all those who still use it.
func checkSchema(ctx context.Context, d *dialect, db *sql.DB) (schema int64, err error) {
	provider, err := newProvider(d, db)
	if err != nil {
		return 0, err
	}
	current, target, err := schemas(ctx, provider)
	if err != nil {
		return 0, err
	}
	switch current {
	case target:
		return target, nil
	case 0:
		return target, up(ctx, provider, current, target)
	default:
		return 0, unavailable(ErrOlderSchema, "the store has schema %d, but this release needs %d: "+
			"stop all replicas of earlier releases, make a backup, and run kmsd migrate up", current, target)
	}
}

func newProvider(d *dialect, db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrationFiles, d.migrations)
	if err != nil {
		return nil, unavailable(err, "the migrations of the store do not load: %v", err)
	}
	options := []goose.ProviderOption{
		goose.WithTableName(schemaTable),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()),
	}
	if d.gooseOptions != nil {
		more, err := d.gooseOptions()
		if err != nil {
			return nil, unavailable(err, "the migrations of the store do not load: %v", err)
		}
		options = append(options, more...)
	}
	provider, err := goose.NewProvider(d.goose, db, files, options...)
	if err != nil {
		return nil, unavailable(err, "the migrations of the store do not load: %v", err)
	}
	return provider, nil
}

// schemas returns which schema the store has, 0 for none, and which it should have. A
// store that no way leads up from is an error.
func schemas(ctx context.Context, provider *goose.Provider) (current, target int64, err error) {
	current, target, err = provider.GetVersions(ctx)
	switch {
	case err != nil:
		return 0, 0, unavailable(err, "cannot read the schema version of the store: %v", err)
	case current > target:
		return current, target, unavailable(ErrNewerSchema, "the store has schema %d, but this release knows no later one than %d: "+
			"a later release has migrated it; run that release, or restore the backup made before the upgrade", current, target)
	case current > 0 && current < firstSchema:
		return current, target, unavailable(ErrOlderSchema, "the store has schema %d, which is that of a development version "+
			"from before the first release: no way leads from it to schema %d; make a new store", current, target)
	}
	return current, target, nil
}

func up(ctx context.Context, provider *goose.Provider, current, target int64) error {
	if _, err := provider.Up(ctx); err != nil {
		return unavailable(err, "cannot bring the schema of the store from %d to %d: %v", current, target, err)
	}
	return nil
}
