package keystore

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"

	"github.com/keyholt/keyholt/kms"
)

// dialect is all that differs between databases. Every other statement of the package
// is understood by all of them: placeholders are $1, $2, ... and no statement relies on
// a conversion between types.
type dialect struct {
	name       string        // Config.Driver
	goose      goose.Dialect // how goose keeps its own table
	migrations string        // the folder of the schema, in migrationFiles

	// open takes whatever lock the database needs and connects. Both results of a
	// successful call must be closed by the caller, the pool first.
	open func(ctx context.Context, dsn string) (*sql.DB, *fileLock, error)

	// isConflict tells that a statement failed because a row exists already, or does
	// not exist, that another row refers to.
	isConflict func(error) bool

	// diagnose examines what only this database has.
	diagnose func(ctx context.Context, db *sql.DB, dsn string) []kms.Finding
}

// dialectOf finds a dialect by the name that a configuration gives it.
func dialectOf(driver string) (*dialect, bool) {
	switch driver {
	case "sqlite":
		return sqliteDialect(), true
	default:
		return nil, false
	}
}
