package pgtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// StandbyOption is a choice for a new standby.
type StandbyOption func(*standbyOptions)

type standbyOptions struct{ synchronous bool }

// Synchronous makes the standby the one that the primary waits for: a commit (with
// synchronous_commit on) returns when the standby has it on disk, and while the standby is
// gone no commit returns. Of several synchronous standbys of a primary the last counts.
func Synchronous() StandbyOption {
	return func(o *standbyOptions) { o.synchronous = true }
}

// StartStandby makes a copy of a running cluster that follows it by streaming replication
// and serves reads. It returns when the standby streams, and with [Synchronous] when
// the primary waits for it. The standby is gone when the test has ended.
func StartStandby(tb testing.TB, primary *Cluster, opts ...StandbyOption) *Cluster {
	tb.Helper()
	var options standbyOptions
	for _, opt := range opts {
		opt(&options)
	}
	home, err := primary.ws.newHome()
	if err != nil {
		tb.Fatal(err)
	}
	standby := &Cluster{ws: primary.ws, home: home}
	tb.Cleanup(func() { standby.end(tb) })
	if err := standby.follow(primary, options); err != nil {
		tb.Fatalf("starting a standby: %v", err)
	}
	return standby
}

// standbySettings is the configuration of a standby beside that of its place. What the primary
// waits for is its own affair: promoted, this one waits for nobody. And one that has lost
// its primary may not notice before the interval (by default 5 s) is over that it is to be
// promoted.
const standbySettings = `synchronous_standby_names = ''
wal_retrieve_retry_interval = 100ms
`

func (c *Cluster) follow(primary *Cluster, options standbyOptions) error {
	err := c.ws.account.run(c.home, c.ws.program("pg_basebackup"), "--pgdata="+c.data(),
		"--dbname="+primary.AdminDSN(adminDatabase), "--write-recovery-conf", "--wal-method=stream",
		"--checkpoint=fast", "--no-sync")
	if err != nil {
		return err
	}
	if err := c.configure(standbySettings); err != nil {
		return err
	}
	if err := c.firstStart(); err != nil {
		return err
	}
	state := "async"
	if options.synchronous {
		state = "sync"
		if err := primary.admin("ALTER SYSTEM SET synchronous_standby_names = '" + c.name() + "'"); err != nil {
			return err
		}
		if err := primary.admin("SELECT pg_reload_conf()"); err != nil {
			return err
		}
	}
	return primary.awaitStandby(c.name(), state)
}

// awaitStandby waits until a standby streams in a state of synchronisation. The name by
// which the primary knows it is that of its cluster.
func (c *Cluster) awaitStandby(name, state string) error {
	const query = `SELECT EXISTS (SELECT FROM pg_stat_replication
		WHERE application_name = $1 AND state = 'streaming' AND sync_state = $2)`
	return c.withAdmin(func(ctx context.Context, conn *pgx.Conn) error {
		ticker := time.NewTicker(pollInterval)
		defer ticker.Stop()
		for {
			var reached bool
			if err := conn.QueryRow(ctx, query, name, state).Scan(&reached); err != nil || reached {
				return err
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("standby %s does not stream as %s: %w", name, state, ctx.Err())
			case <-ticker.C:
			}
		}
	})
}

// Promote makes a standby a primary and returns when it accepts writes.
func (c *Cluster) Promote(tb testing.TB) {
	tb.Helper()
	err := c.ws.account.run(c.home, c.ws.program("pg_ctl"), "promote", "--wait",
		fmt.Sprintf("--timeout=%d", int(startTimeout.Seconds())), "--pgdata="+c.data())
	if err != nil {
		tb.Fatalf("promoting a standby: %v", err)
	}
}
