package keystore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// applicationID marks a SQLite file as a store of Keyholt ("KYHT"; see
// https://www.sqlite.org/fileformat.html, application id).
const applicationID = 0x4b594854

func sqliteDialect() *dialect {
	return &dialect{
		name:       "sqlite",
		goose:      goose.DialectSQLite3,
		migrations: "migrations/sqlite",
		confirm:    "UPDATE meta SET confirmations = confirmations + 1 WHERE id = 1",
		exclusive:  true,
		open:       openSQLite,
		location:   func(path string) string { return path },
		// A transaction that writes has the database for itself from its begin (_txlock).
		readOptions: &sql.TxOptions{ReadOnly: true},
		isConflict:  isSQLiteConflict,
		diagnose:    diagnoseSQLite,
	}
}

// openSQLite locks the file at path and opens it, making it if it does not exist.
func openSQLite(ctx context.Context, path string) (_ *connection, err error) {
	path, err = canonicalPath(path)
	if err != nil {
		return nil, unavailable(err, "cannot find the directory of the store: %v; make it first", err)
	}
	lock, err := lockStore(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	if err := createPrivate(path); err != nil {
		return nil, unavailable(err, "cannot open the store: %v", err)
	}
	connector, err := sqlite.NewConnector(sqliteURI(path))
	if err != nil {
		return nil, unavailable(err, "cannot open the store %s: %v", path, err)
	}
	db := sql.OpenDB(connector)
	// One connection: SQLite has one writer, and a process that shares its store with
	// nobody gains nothing from waiting inside SQLite instead of in the pool.
	db.SetMaxOpenConns(1)
	if err := checkSQLite(ctx, db, path); err != nil {
		_ = db.Close()
		return nil, err
	}
	return &connection{db: db, peers: newLocalPeers(), lock: lock}, nil
}

// canonicalPath resolves symbolic links, so that one store has one lock file.
func canonicalPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err == nil {
		return resolved, nil
	}
	directory, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", err
	}
	return filepath.Join(directory, filepath.Base(path)), nil
}

// createPrivate makes the database file, if there is none, such that only its owner can
// read it: SQLite gives the journal files the same mode. Its directory entry is synced,
// which SQLite would do only for a file that it made itself.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// sqliteURI names the file and the settings of every connection to it. fullfsync
// matters on macOS only, where a plain fsync does not reach the medium.
func sqliteURI(path string) string {
	query := url.Values{
		"_pragma": {
			"busy_timeout(5000)",
			"journal_mode(WAL)",
			"synchronous(FULL)",
			"fullfsync(1)",
			"checkpoint_fullfsync(1)",
			"foreign_keys(1)",
			"trusted_schema(0)",
		},
		"_txlock":    {"immediate"}, // a transaction that will write never fails half-way for want of the lock
		"_dqs":       {"0"},
		"_defensive": {"1"},
		"_error_rc":  {"1"},
	}
	uri := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return uri.String()
}

// checkSQLite refuses a file that is not a store, and settings that did not take
// effect: SQLite ignores a journal mode that the file system cannot support.
func checkSQLite(ctx context.Context, db *sql.DB, path string) error {
	var application, tables, synchronous int64
	var journal string
	err := errors.Join(
		db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&application),
		db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables),
		db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous),
		db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal),
	)
	switch {
	case isSQLiteError(err, sqlite3.SQLITE_NOTADB):
		return unavailable(ErrForeignDatabase, "%s is not a SQLite database", path)
	case err != nil:
		return unavailable(err, "cannot open the store %s: %v", path, err)
	case application != applicationID && (application != 0 || tables != 0):
		return unavailable(ErrForeignDatabase, "%s is a SQLite database of another program", path)
	case journal != "wal" || synchronous != 2:
		return unavailable(nil, "%s: SQLite runs with journal_mode=%s and synchronous=%d instead of wal and 2 (FULL): "+
			"the file system does not support it; put the store on a local disk", path, journal, synchronous)
	}
	if application == 0 {
		if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return unavailable(err, "cannot write the store %s: %v", path, err)
		}
	}
	return nil
}

func isSQLiteConflict(err error) bool {
	return isSQLiteError(err, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY) ||
		isSQLiteError(err, sqlite3.SQLITE_CONSTRAINT_UNIQUE) ||
		isSQLiteError(err, sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY)
}

func isSQLiteError(err error, code int) bool {
	var failure *sqlite.Error
	return errors.As(err, &failure) && failure.Code() == code
}
