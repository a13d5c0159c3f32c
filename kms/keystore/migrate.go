package keystore

import (
	"context"
	"database/sql"
	"embed"
	"io/fs"

	"github.com/pressly/goose/v3"
)

//go:embed migrations/*/*.sql
var migrationFiles embed.FS

// schemaTable is where goose records which migrations the store has seen.
const schemaTable = "schema_versions"

// migrate brings the schema up to the one of this program, and returns its number. A
// store that a later release has migrated is refused: nothing is known of its rows.
func migrate(ctx context.Context, d *dialect, db *sql.DB) (schema int64, err error) {
	files, err := fs.Sub(migrationFiles, d.migrations)
	if err != nil {
		return 0, unavailable(err, "the migrations of the store do not load: %v", err)
	}
	provider, err := goose.NewProvider(d.goose, db, files,
		goose.WithTableName(schemaTable),
		goose.WithDisableGlobalRegistry(true),
		goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return 0, unavailable(err, "the migrations of the store do not load: %v", err)
	}
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return 0, unavailable(err, "cannot read the schema version of the store: %v", err)
	}
	if current > target {
		return 0, unavailable(ErrNewerSchema, "the store has schema %d, but this release knows no later one than %d: "+
			"a later release has migrated it; run that release, or restore the backup made before the upgrade", current, target)
	}
	if _, err := provider.Up(ctx); err != nil {
		return 0, unavailable(err, "cannot bring the schema of the store from %d to %d: %v", current, target, err)
	}
	return target, nil
}
