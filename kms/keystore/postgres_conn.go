package keystore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// rollbackTimeout is how long a transaction may take to roll back before its
	// connection is given up.
	rollbackTimeout = 2 * time.Second
	// commitTimeout is how long one may take to commit, however much time the caller has.
	// While a synchronous standby is away no commit ends.
	commitTimeout = 15 * time.Second
)

// SQLSTATEs (https://www.postgresql.org/docs/current/errcodes-appendix.html) by which a
// server says that it is, or will soon be, no longer the one to talk to.
const (
	readOnlyTransaction = "25006"
	adminShutdown       = "57P01"
	crashShutdown       = "57P02"
)

// errCommitting: a commit that is under way must not be cancelled.
var errCommitting = errors.New("a commit is not cancelled")

// errNotPrimary: the server takes no writes.
var errNotPrimary = errors.New("the server is a standby, or read-only")

// postgresConnector makes the connections of a pool. It accepts only a server that takes
// writes, whatever target_session_attrs says: what a standby tells may be old.
type postgresConnector struct {
	dsn string
	// epoch counts how often a server has turned out to be lost. Connections of an
	// earlier one are dropped before their next use.
	epoch atomic.Int64
}

// Connect tries the hosts of the DSN in their order.
func (c *postgresConnector) Connect(ctx context.Context) (driver.Conn, error) {
	config, err := postgresConfig(c.dsn)
	if err != nil {
		return nil, err
	}
	conn := &postgresConn{connector: c, epoch: c.epoch.Load()}
	config.ValidateConnect = checkSession
	config.OnNotice = conn.notice
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if conn.committing.Load() { // the driver is about to ask the server to cancel
			return nil, errCommitting
		}
		return dial(ctx, network, address)
	}
	closeIfFatal := config.OnPgError
	config.OnPgError = func(pgConn *pgconn.PgConn, e *pgconn.PgError) bool {
		if e.Code == readOnlyTransaction || e.Code == adminShutdown || e.Code == crashShutdown {
			c.epoch.Add(1)
			return false
		}
		return closeIfFatal(pgConn, e)
	}
	made, err := stdlib.GetConnector(*config).Connect(ctx)
	if err != nil {
		return nil, err
	}
	var ok bool
	if conn.Conn, ok = made.(*stdlib.Conn); !ok {
		return nil, errors.Join(fmt.Errorf("the driver made a %T", made), made.Close())
	}
	return conn, nil
}

// Driver returns pgx.
func (*postgresConnector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// checkSession refuses a server that is not the primary, so that the next host is tried, and
// a session that has not the settings it was opened with.
func checkSession(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on', "+
		"current_setting('synchronous_commit')").ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return errors.New("the server does not tell what it is")
	}
	row := results[0].Rows[0]
	if string(row[0]) != "f" {
		return errNotPrimary
	}
	if synchronousCommit := string(row[1]); !isDurable(synchronousCommit) {
		return fmt.Errorf("the session has synchronous_commit=%s, although it was opened with another value", synchronousCommit)
	}
	return nil
}

// postgresConn is a connection of a pool. What it adds to pgx is care at the two ends of
// a transaction.
type postgresConn struct {
	*stdlib.Conn
	connector *postgresConnector
	epoch     int64
	warning   *pgconn.Notice // the last one; nil: none since the commit began

	// committing: a commit is under way, or its outcome is not known.
	committing atomic.Bool
}

// notice notes what the server warns of.
func (c *postgresConn) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized == "WARNING" {
		c.warning = n
	}
}

// IsValid says before the connection goes back to the pool whether it may.
func (c *postgresConn) IsValid() bool {
	return c.epoch == c.connector.epoch.Load() && !c.Conn.Conn().IsClosed()
}

// ResetSession says before the connection is used again whether it can be.
func (c *postgresConn) ResetSession(ctx context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return c.Conn.ResetSession(ctx)
}

// BeginTx begins a transaction on what is still the primary. Nothing has been done yet:
// where that fails for want of a connection, the pool may try another.
func (c *postgresConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	if !c.IsValid() {
		return nil, driver.ErrBadConn
	}
	statement := "BEGIN ISOLATION LEVEL READ COMMITTED"
	if sql.IsolationLevel(options.Isolation) == sql.LevelRepeatableRead {
		statement = "BEGIN ISOLATION LEVEL REPEATABLE READ"
	} else if options.Isolation != 0 {
		return nil, fmt.Errorf("isolation level %d is not in use here", options.Isolation)
	}
	if options.ReadOnly {
		statement += " READ ONLY"
	} else {
		statement += " READ WRITE"
	}
	results, err := c.Conn.Conn().PgConn().Exec(ctx, statement+"; SELECT pg_is_in_recovery()").ReadAll()
	switch {
	case err != nil && ctx.Err() == nil && c.Conn.Conn().IsClosed():
		return nil, driver.ErrBadConn
	case err != nil:
		return nil, errors.Join(err, c.Close())
	case len(results) != 2 || len(results[1].Rows) != 1 || string(results[1].Rows[0][0]) != "f":
		c.connector.epoch.Add(1)
		_ = c.Close() // it is of no use any more
		return nil, driver.ErrBadConn
	}
	return &postgresTx{conn: c, ctx: ctx}, nil
}

// postgresTx is a transaction. It keeps the context because the interface of drivers gives
// none to its end.
type postgresTx struct {
	conn *postgresConn
	ctx  context.Context
}

// Commit commits. What the caller is not told is committed must not be seen by others
// either, as long as a fail-over could undo it; so there are two things that it takes care of.
//
// When it gives up, it does not let the driver cancel the statement, as that does
// otherwise: a commit that waits for the synchronous standby would stop waiting. So it goes
// on to wait, and nobody sees it until the standby has it.
//
// A warning of the server is an error: with one it says that somebody else has cancelled
// the wait.
func (t *postgresTx) Commit() error {
	ctx, cancel := context.WithTimeout(t.ctx, commitTimeout)
	defer cancel()
	t.conn.warning = nil
	t.conn.committing.Store(true)
	results, err := t.conn.Conn.Conn().PgConn().Exec(ctx, "COMMIT").ReadAll()
	if err != nil {
		return errors.Join(err, t.conn.Close())
	}
	t.conn.committing.Store(false)
	if w := t.conn.warning; w != nil {
		return errors.Join(fmt.Errorf("the server has committed with a warning: %s (%s)", w.Message, w.Detail), t.conn.Close())
	}
	if len(results) != 1 || results[0].CommandTag.String() != "COMMIT" {
		return errors.New("the server has rolled back instead of committing")
	}
	return nil
}

// Rollback rolls back, also when the context has ended, so that others need not wait for
// the server to notice that nobody goes on.
func (t *postgresTx) Rollback() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), rollbackTimeout)
	defer cancel()
	if _, err := t.conn.Conn.Conn().PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		return errors.Join(err, t.conn.Close())
	}
	return nil
}
