package pgtest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// connect opens a connection that is closed when the test has ended.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // the server may be gone
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// query returns the one value that a query is for.
func query[T any](t *testing.T, conn *pgx.Conn, sql string) (value T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// sqlState is the SQLSTATE of an error that the server returned, "" for another.
func sqlState(err error) string {
	var failure *pgconn.PgError
	if errors.As(err, &failure) {
		return failure.Code
	}
	return ""
}

const undefinedTable, invalidPassword, insufficientPrivilege = "42P01", "28P01", "42501"

func TestDatabasesAreIsolated(t *testing.T) {
	t.Parallel()
	one, other := connect(t, pgtest.NewDatabase(t)), connect(t, pgtest.NewDatabase(t))
	execute(t, one, "CREATE TABLE only_in_one (n int)")
	if _, err := other.Exec(t.Context(), "SELECT * FROM only_in_one"); sqlState(err) != undefinedTable {
		t.Errorf("error %v, want SQLSTATE %s", err, undefinedTable)
	}
	if a, b := one.Config().Port, other.Config().Port; a != b {
		t.Errorf("ports %d and %d: the databases are in two clusters", a, b)
	}
}

func TestDatabaseEndsWithItsTest(t *testing.T) {
	t.Parallel()
	var database string
	t.Run("with an open connection", func(t *testing.T) {
		conn, err := pgx.Connect(t.Context(), pgtest.NewDatabase(t))
		if err != nil {
			t.Fatal(err)
		}
		database = conn.Config().Database // and the connection stays open
	})
	conn := connect(t, pgtest.NewDatabase(t))
	if query[bool](t, conn, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = '"+database+"')") {
		t.Errorf("the database %s is still there", database)
	}
}

func TestLikeInProduction(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	database := cluster.NewDatabase(t)
	conn := connect(t, cluster.DSN(database))
	for parameter, want := range map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
		"is_superuser": "off", "password_encryption": "scram-sha-256", "server_encoding": "UTF8",
	} {
		if got := query[string](t, conn, "SHOW "+parameter); got != want {
			t.Errorf("%s is %s, want %s", parameter, got, want)
		}
	}
	if _, err := conn.Exec(t.Context(), "CREATE ROLE another"); sqlState(err) != insufficientPrivilege {
		t.Errorf("making a role: error %v, want SQLSTATE %s", err, insufficientPrivilege)
	}
	if !query[bool](t, connect(t, cluster.AdminDSN(database)), "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") {
		t.Error("AdminDSN is not that of a superuser")
	}
}

func TestPasswordIsChecked(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig(pgtest.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	config.Password += "x"
	if conn, err := pgx.ConnectConfig(t.Context(), config); sqlState(err) != invalidPassword {
		t.Errorf("connection %v, error %v, want SQLSTATE %s", conn, err, invalidPassword)
	}
}

func TestSocket(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Fast())
	config, err := pgx.ParseConfig(cluster.DSN(cluster.NewDatabase(t)))
	if err != nil {
		t.Fatal(err)
	}
	config.Host = cluster.SocketDir()
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if !query[bool](t, conn, "SELECT inet_server_addr() IS NULL") {
		t.Error("the connection is not one by a unix socket")
	}
}

func TestSetting(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Fast(), pgtest.Setting("search_path", "it's, public"))
	conn := connect(t, cluster.DSN(cluster.NewDatabase(t)))
	if got, want := query[string](t, conn, "SHOW search_path"), "it's, public"; got != want {
		t.Errorf("search_path is %q, want %q", got, want)
	}
	if got := query[string](t, conn, "SHOW fsync"); got != "off" {
		t.Errorf("fsync is %s with Fast, want off", got)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]pgtest.Shutdown{
		"fast": pgtest.FastShutdown, "immediate": pgtest.ImmediateShutdown,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Start(t)
			dsn := cluster.DSN(cluster.NewDatabase(t))
			before := connect(t, dsn)
			execute(t, before, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
			cluster.Restart(t, how)
			if err := before.Ping(t.Context()); err == nil {
				t.Error("a connection survived the restart")
			}
			if got := query[int](t, connect(t, dsn), "SELECT n FROM kept"); got != 7 {
				t.Errorf("read %d, want 7", got)
			}
		})
	}
}

// TestKill kills a server in the middle of a transaction: what was committed is there
// after the recovery, what was not is not.
func TestKill(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	dsn := cluster.DSN(cluster.NewDatabase(t))
	conn := connect(t, dsn)
	execute(t, conn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)", "BEGIN", "INSERT INTO kept VALUES (2)")
	cluster.Kill(t)
	if _, err := pgx.Connect(t.Context(), dsn); err == nil {
		t.Fatal("a killed server accepts connections")
	}
	cluster.Start(t)
	if got := query[int](t, connect(t, dsn), "SELECT sum(n)::int FROM kept"); got != 1 {
		t.Errorf("the sum is %d, want 1: the committed row only", got)
	}
}
