package keystore

import (
	"context"
	"database/sql"
	"errors"
	"io"

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

	// exclusive: one process has the store open at a time (kms.Store.Exclusive).
	exclusive bool

	// gooseOptions are further options of goose, such as the lock that lets only one of
	// several processes make the tables.
	gooseOptions func() ([]goose.ProviderOption, error)

	// open takes whatever lock the database needs and connects.
	open func(ctx context.Context, dsn string) (*connection, error)

	// location names the database for people, without a password.
	location func(dsn string) string

	// readOptions are those of a transaction of several statements that must all see
	// one state of the database; writeOptions those of one that locks the head first.
	readOptions, writeOptions *sql.TxOptions

	// leaseOptions are those of a transaction that changes a lease row, and reads one state
	// of the metadata without a lock.
	leaseOptions *sql.TxOptions

	// forUpdate follows a SELECT of one row that the transaction will change. It waits
	// for other transactions that have done the same, and then sees what they have
	// committed. Empty where the transaction excludes others from its begin.
	forUpdate string

	// confirm is a statement that writes, so that the commit of its transaction must be
	// confirmed as that of a change is. It waits for nobody: a process can be stopped while
	// its transaction is open.
	confirm string

	// notify wakes, when the transaction commits, those who listen in other processes.
	// nil: there are none.
	notify func(ctx context.Context, tx *sql.Tx) error

	// clock is a statement that reads the server's clock, in microseconds since 1970.
	// Empty: it is this machine's.
	clock string

	// isConflict tells that a statement failed because a row exists already, or does
	// not exist, that another row refers to.
	isConflict func(error) bool

	// diagnose examines what only this database has.
	diagnose func(ctx context.Context, db *sql.DB, dsn string) []kms.Finding
}

// connection is an open database and what of it is not SQL.
type connection struct {
	db    *sql.DB
	peers peers
	lock  io.Closer // of the whole store; released after db is closed. nil: there is none

	// changes holds a value for each change under way. They wait for each other in the
	// database anyway; the rest of its connections is for leases, which must not wait.
	// nil: there is one connection, and no lease.
	changes chan struct{}
}

// enterChange waits until a change may have a connection.
func (c *connection) enterChange(ctx context.Context) (leave func(), err error) {
	if c.changes == nil {
		return func() {}, nil
	}
	select {
	case c.changes <- struct{}{}:
		return func() { <-c.changes }, nil
	case <-ctx.Done():
		return nil, unavailable(ctx.Err(), "waited for other changes of the store: %v", ctx.Err())
	}
}

// peers is how processes on one database exclude and wake each other, as kms.Coordination
// says of the methods of the same names. Close ends it; it comes before the database's.
type peers interface {
	Lock(ctx context.Context, name string) (unlock func(), err error)
	TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error)
	Listen(ctx context.Context, wake func())
	io.Closer
}

// close closes everything, in order.
func (c *connection) close() error {
	err := errors.Join(c.peers.Close(), c.db.Close())
	if c.lock != nil {
		err = errors.Join(err, c.lock.Close())
	}
	return err
}

// drivers lists the names that dialectOf knows.
const drivers = "sqlite, postgres"

// dialectOf finds a dialect by the name that a configuration gives it.
func dialectOf(driver string) (*dialect, bool) {
	switch driver {
	case "sqlite":
		return sqliteDialect(), true
	case "postgres":
		return postgresDialect(), true
	default:
		return nil, false
	}
}
