package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	loopback = "127.0.0.1"
	// adminRole is the superuser. appRole owns the databases of tests.
	adminRole, appRole = "postgres", "keyholt"
	adminDatabase      = "postgres"
	sqlTimeout         = 60 * time.Second
)

// NewDatabase makes an empty database in the cluster that all tests of the process share,
// a [Fast] one, and returns its DSN. It is dropped when the test has ended, connections
// that are still open or not.
func NewDatabase(tb testing.TB) (dsn string) {
	tb.Helper()
	c, err := sharedCluster()
	if err != nil {
		tb.Fatalf("starting PostgreSQL: %v", err)
	}
	name, err := c.createDatabase()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.admin("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			tb.Error(err)
		}
	})
	return c.DSN(name)
}

// sharedCluster returns the cluster for NewDatabase, which the first call starts.
func sharedCluster() (*Cluster, error) {
	ws, err := theWorkspace()
	if err != nil {
		return nil, err
	}
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.shared == nil {
		// For the databases of many tests that run in parallel.
		c, err := newCluster(ws, []Option{Fast(), Setting("max_connections", "500")})
		if err != nil {
			return nil, err
		}
		process.shared = c
	}
	return process.shared, nil
}

// NewDatabase makes an empty database and returns its name, for DSN.
func (c *Cluster) NewDatabase(tb testing.TB) (name string) {
	tb.Helper()
	name, err := c.createDatabase()
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

func (c *Cluster) createDatabase() (name string, err error) {
	name = "test_" + randomHex(8)
	return name, c.admin("CREATE DATABASE " + name + " OWNER " + appRole)
}

func (c *Cluster) createRole() error {
	return c.admin("CREATE ROLE " + appRole + " LOGIN PASSWORD '" + c.ws.password + "'")
}

// DSN is how a database is reached over TCP by the role that owns it: a URL with a
// password. The role is no superuser.
func (c *Cluster) DSN(database string) string { return c.dsn(appRole, database, nil) }

// AdminDSN is DSN for the superuser.
func (c *Cluster) AdminDSN(database string) string { return c.dsn(adminRole, database, nil) }

// PairDSN is how a database is reached on whichever of two servers accepts writes: a DSN
// with both hosts and target_session_attrs=read-write.
func PairDSN(primary, standby *Cluster, database string) string {
	return primary.dsn(appRole, database, standby)
}

func (c *Cluster) dsn(role, database string, other *Cluster) string {
	host, query := c.address(), url.Values{"sslmode": {"disable"}}
	if other != nil {
		host += "," + other.address()
		query.Set("target_session_attrs", "read-write")
	}
	dsn := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, c.ws.password),
		Host:     host,
		Path:     "/" + database,
		RawQuery: query.Encode(),
	}
	return dsn.String()
}

func (c *Cluster) address() string { return net.JoinHostPort(loopback, strconv.Itoa(c.port)) }

// admin executes one statement as the superuser.
func (c *Cluster) admin(sql string) error {
	return c.withAdmin(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// withAdmin connects as the superuser. It has its own context because databases are
// dropped when that of the test is over.
func (c *Cluster) withAdmin(do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.AdminDSN(adminDatabase))
	if err != nil {
		return fmt.Errorf("PostgreSQL on port %d: %w", c.port, err)
	}
	err = do(ctx, conn)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("PostgreSQL on port %d: %w", c.port, err)
	}
	return nil
}
