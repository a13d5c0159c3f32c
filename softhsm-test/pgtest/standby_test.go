package pgtest_test

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// TestFailOver promotes the synchronous standby of a primary that was killed: it has what
// was committed, and a pool with the DSN of both hosts goes there.
func TestFailOver(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t)
	database := primary.NewDatabase(t)
	standby := pgtest.StartStandby(t, primary, pgtest.Synchronous())
	pool, err := sql.Open("pgx", pgtest.PairDSN(primary, standby, database))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()

	if got := portOf(t, pool); got != primary.Port() {
		t.Fatalf("before, the DSN leads to port %d, want that of the primary, %d", got, primary.Port())
	}
	for _, statement := range []string{"CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)"} {
		if _, err := pool.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if !query[bool](t, connect(t, standby.DSN(database)), "SELECT pg_is_in_recovery()") {
		t.Error("the standby is none")
	}

	primary.Kill(t)
	standby.Promote(t)
	// The pool's idle connection tells once that its server went; what comes next is new.
	if err := pool.PingContext(t.Context()); err != nil {
		t.Logf("first use after the fail-over: %v", err)
	}
	if got := portOf(t, pool); got != standby.Port() {
		t.Errorf("after, the DSN leads to port %d, want that of the standby, %d", got, standby.Port())
	}
	var sum int
	if err := pool.QueryRowContext(t.Context(), "SELECT sum(n) FROM kept").Scan(&sum); err != nil || sum != 7 {
		t.Errorf("sum %d, error %v, want 7", sum, err)
	}
	if _, err := pool.ExecContext(t.Context(), "INSERT INTO kept VALUES (8)"); err != nil {
		t.Errorf("the promoted standby takes no writes: %v", err)
	}
}

// portOf asks the server that a pool leads to for its port.
func portOf(t *testing.T, pool *sql.DB) (port int) {
	t.Helper()
	if err := pool.QueryRowContext(t.Context(), "SELECT inet_server_port()").Scan(&port); err != nil {
		t.Fatal(err)
	}
	return port
}

// TestPairInOtherOrder holds that the DSN of a pair leads to the primary whichever host
// comes first.
func TestPairInOtherOrder(t *testing.T) {
	t.Parallel()
	primary := pgtest.Start(t, pgtest.Fast())
	database := primary.NewDatabase(t)
	standby := pgtest.StartStandby(t, primary)
	conn := connect(t, pgtest.PairDSN(standby, primary, database))
	if got := query[int](t, conn, "SELECT inet_server_port()"); got != primary.Port() {
		t.Errorf("the DSN leads to port %d, want that of the primary, %d", got, primary.Port())
	}
	if got := query[string](t, conn, "SHOW synchronous_standby_names"); got != "" {
		t.Errorf("the primary waits for %q, want nobody", got)
	}
}
