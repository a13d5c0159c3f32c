package keystore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// oldestPostgres is the first version that ends idle sessions, on which locks rely.
const oldestPostgres = 14

// The pool. Of changes there are two at a time: one waits in the database for the other.
const (
	postgresConnections     = 10
	postgresIdleConnections = 4
	postgresIdleTime        = 5 * time.Minute
	postgresChanges         = 2
)

// driverPostgres is the Config.Driver of PostgreSQL.
const driverPostgres = "postgres"

// storeComment marks the table meta of a store, as the migrations do.
const storeComment = "Keyholt metadata"

func postgresDialect() *dialect {
	sender := make([]byte, 8)
	_, _ = rand.Read(sender) // never fails
	news := &listener{sender: hex.EncodeToString(sender)}
	return &dialect{
		name:         driverPostgres,
		goose:        goose.DialectPostgres,
		migrations:   "migrations/postgres",
		gooseOptions: postgresGooseOptions,
		open: func(ctx context.Context, dsn string) (*connection, error) {
			return openPostgres(ctx, dsn, news)
		},
		location: postgresLocation,
		// One snapshot for all statements; nothing is written, so nothing can fail to
		// serialize.
		readOptions: &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		// Each statement sees what was committed before it: after the wait for the head's
		// row that is the newest state, and stays it until the end.
		writeOptions: &sql.TxOptions{},
		// A row of a lease is its replica's: that another changes it meanwhile, and this fails
		// to serialize, is as rare as that the row is removed.
		leaseOptions: &sql.TxOptions{Isolation: sql.LevelRepeatableRead},
		forUpdate:    " FOR UPDATE",
		// A record in the write-ahead log, of the transaction and of nothing else.
		confirm:    "SELECT pg_logical_emit_message(true, 'keyholt', 'confirm')",
		notify:     news.notify,
		clock:      "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
		isConflict: isPostgresConflict,
		diagnose:   diagnosePostgres,
	}
}

// postgresGooseOptions lets one process at a time make the tables.
func postgresGooseOptions() ([]goose.ProviderOption, error) {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return nil, err
	}
	return []goose.ProviderOption{goose.WithSessionLocker(locker)}, nil
}

// openPostgres connects, and refuses a database in which a store cannot be.
func openPostgres(ctx context.Context, dsn string, news *listener) (*connection, error) {
	if _, err := postgresConfig(dsn); err != nil {
		return nil, err
	}
	db := sql.OpenDB(&postgresConnector{dsn: dsn})
	db.SetMaxOpenConns(postgresConnections)
	db.SetMaxIdleConns(postgresIdleConnections)
	db.SetConnMaxIdleTime(postgresIdleTime)
	schema, err := checkPostgres(ctx, db)
	if err != nil {
		_ = db.Close() // err says what is wrong
		return nil, err
	}
	news.schema = schema
	news.connect = func(ctx context.Context) (*pgx.Conn, error) {
		return connectPostgres(ctx, dsn, map[string]string{"application_name": "kmsd listen"})
	}
	locks := newAdvisoryLocks(schema, func(ctx context.Context) (*pgx.Conn, error) {
		return connectPostgres(ctx, dsn, map[string]string{
			"application_name":     "kmsd lock",
			"statement_timeout":    "0", // a wait has the time that the caller has
			"lock_timeout":         "0",
			"idle_session_timeout": milliseconds(lockIdleTimeout),
		})
	})
	return &connection{
		db:      db,
		peers:   &postgresPeers{advisoryLocks: locks, listener: news},
		changes: make(chan struct{}, postgresChanges),
	}, nil
}

// connectPostgres makes a connection outside of the pool, to the primary.
func connectPostgres(ctx context.Context, dsn string, settings map[string]string) (*pgx.Conn, error) {
	config, err := postgresConfig(dsn)
	if err != nil {
		return nil, err
	}
	config = withSettings(config, settings)
	config.ValidateConnect = checkSession
	return pgx.ConnectConfig(ctx, config)
}

// postgresPeers is what replicas on one database share beside the tables.
type postgresPeers struct {
	*advisoryLocks
	*listener
}

// Close ends the locks. What listens ends with its context.
func (p *postgresPeers) Close() error {
	p.close()
	return nil
}

// checkPostgres checks the server and that the schema is free or a store's. It returns the
// schema's name.
func checkPostgres(ctx context.Context, db *sql.DB) (schema string, err error) {
	var version int
	var encoding, database string
	var current sql.NullString
	err = db.QueryRowContext(ctx, "SELECT current_setting('server_version_num')::integer / 10000, "+
		"current_setting('server_encoding'), current_database(), current_schema()").
		Scan(&version, &encoding, &database, &current)
	switch {
	case err != nil:
		return "", unavailable(err, "cannot connect to the store's database: %v", postgresReason(err))
	case version < oldestPostgres:
		return "", unavailable(nil, "the store's server is PostgreSQL %d; it must be %d or later", version, oldestPostgres)
	case encoding != "UTF8":
		return "", unavailable(nil, "the database %s has the encoding %s; a store needs UTF8: "+
			"CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0", database, encoding)
	case !current.Valid:
		return "", unavailable(nil, "no schema of the search_path exists in the database %s, or the role may not use it", database)
	}
	return current.String, checkForeign(ctx, db, database, current.String)
}

// checkForeign refuses a schema in which tables with the names of ours are of another program,
// and one that has no store and in which the role can make none. Other tables do not matter.
func checkForeign(ctx context.Context, db *sql.DB, database, schema string) error {
	names := []string{"meta", "head", schemaTable, "leases", "usage"}
	for _, t := range sealedTables {
		names = append(names, t.name)
	}
	var found, comment string
	var mayCreate bool
	err := db.QueryRowContext(ctx, "SELECT coalesce(string_agg(relname, ', ' ORDER BY relname), ''), "+
		"coalesce(max(obj_description(oid, 'pg_class')) FILTER (WHERE relname = 'meta'), ''), "+
		"has_schema_privilege(current_schema(), 'CREATE') "+
		"FROM pg_class WHERE relnamespace = current_schema()::regnamespace "+
		"AND relname = ANY (string_to_array($1, ','))", strings.Join(names, ",")).Scan(&found, &comment, &mayCreate)
	switch {
	case err != nil:
		return unavailable(err, "cannot read the catalogue of the store's database: %v", postgresReason(err))
	case comment == storeComment:
		return nil
	case found != "" && found != schemaTable: // it alone: the first migration did not end
		return unavailable(ErrForeignDatabase, "the schema %s of the database %s has tables of another program: %s; "+
			"give the store a schema of its own (CREATE SCHEMA keyholt, and search_path=keyholt in the dsn)", schema, database, found)
	case !mayCreate:
		return unavailable(nil, "the schema %s of the database %s has no store, and this role can make none; "+
			"run kmsd migrate up as the schema's owner", schema, database)
	}
	return nil
}

// isPostgresConflict: a row exists already (unique_violation), or one does not that another
// refers to (foreign_key_violation).
func isPostgresConflict(err error) bool {
	state := sqlState(err)
	return state == "23505" || state == "23503"
}

// sqlState is the server's code of an error; empty if it is not from the server.
func sqlState(err error) string {
	var failure *pgconn.PgError
	if !errors.As(err, &failure) {
		return ""
	}
	return failure.Code
}

// postgresReason is an error for people: one line, and what to do where that is clear. It
// holds no password: pgx puts none into errors of connections.
func postgresReason(err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ")
	switch {
	case errors.Is(err, errNotPrimary):
		return text + "; no host of the dsn takes writes"
	case sqlState(err) == "53300":
		return text + "; raise the server's max_connections: a replica needs up to " + strconv.Itoa(postgresConnections+4)
	case sqlState(err) == "42501":
		return text + "; see which rights the role needs in docs/production.md"
	}
	return text
}
