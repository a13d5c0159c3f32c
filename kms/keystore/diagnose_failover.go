package keystore

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/keyholt/keyholt/kms"
)

// replication is what the primary says of its standbys.
type replication struct {
	names       string // synchronous_standby_names
	standbys    string // each with its state
	synchronous int    // sync or quorum
	all         int
	hidden      bool // the role may not see states
}

// diagnoseFailOver says whether a change that was acknowledged survives the loss of the
// primary. Only a synchronous standby is sure to have it.
func diagnoseFailOver(ctx context.Context, db *sql.DB, config *pgx.ConnConfig) kms.Finding {
	const check = "fail-over"
	hosts := postgresHosts(config)
	var r replication
	// Without the role pg_monitor the state of standbys is hidden: NULL.
	err := db.QueryRowContext(ctx, "SELECT current_setting('synchronous_standby_names'), "+
		"coalesce(string_agg(application_name || ' ' || coalesce(sync_state, 'hidden'), ', ' ORDER BY application_name), ''), "+
		"count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')), count(*), coalesce(bool_or(sync_state IS NULL), false) "+
		"FROM pg_stat_replication").
		Scan(&r.names, &r.standbys, &r.synchronous, &r.all, &r.hidden)
	if err != nil {
		return broken(check, err)
	}
	const makeSynchronous = "set synchronous_standby_names on the primary; fail over to a synchronous standby only"
	switch {
	case r.names == "" && len(hosts) > 1:
		return concern(kms.SeverityError, check, makeSynchronous,
			"the dsn names %d hosts, but no standby is synchronous: a fail-over can lose changes that were acknowledged, "+
				"such as a revocation", len(hosts))
	case r.names == "" && r.standbys != "":
		return concern(kms.SeverityWarning, check, makeSynchronous,
			"there are standbys (%s), but none is synchronous: a fail-over to one can lose acknowledged changes", r.standbys)
	case r.names == "":
		return finding(check, "no standby: changes are as durable as the server's disk")
	case anyStandby.MatchString(r.names):
		return concern(kms.SeverityWarning, check, "name the standbys in synchronous_standby_names",
			"synchronous_standby_names is %s: whatever streams WAL counts as a standby, such as a program that archives it; "+
				"a change that only that has is lost by a fail-over", clip(r.names))
	case r.synchronous == 0 && !r.hidden:
		return concern(kms.SeverityError, check, "start the standby, or take it out of synchronous_standby_names",
			"synchronous_standby_names is %s, but no synchronous standby is connected: changes wait for one", clip(r.names))
	case r.hidden:
		return finding(check, fmt.Sprintf("synchronous_standby_names is %s; grant pg_monitor to the role to see more", clip(r.names)))
	case r.synchronous > r.awaited():
		return finding(check, fmt.Sprintf("synchronous standbys: %s; a change is on %d of %d when it is acknowledged, "+
			"so fail over only to the one that has received most (pg_last_wal_receive_lsn)", clip(r.standbys), r.awaited(), r.synchronous))
	case r.all > r.synchronous:
		return finding(check, fmt.Sprintf("standbys: %s; fail over only to one that is sync", clip(r.standbys)))
	}
	return finding(check, "synchronous standby: "+clip(r.standbys))
}

// The parts of synchronous_standby_names
// (https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES).
var (
	anyStandby    = regexp.MustCompile(`(^|[\s,(])"?\*"?($|[\s,)])`)
	quorumStandby = regexp.MustCompile(`(?i)^\s*ANY\s+(\d+)\s*\(`)
)

// awaited is how many of the synchronous standbys have a change when it is acknowledged. By
// priority it is each of those that are sync; by quorum any so many.
func (r *replication) awaited() int {
	if m := quorumStandby.FindStringSubmatch(r.names); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return n
		}
	}
	return r.synchronous
}

// diagnoseSession says whether a session is what it was opened as. A pooler in between may
// leave out settings, and hand statements of one session to several of the server's, in
// which neither locks nor notifications hold.
func diagnoseSession(ctx context.Context, db *sql.DB, config *pgx.ConnConfig) kms.Finding {
	const check = "session"
	conn, err := db.Conn(ctx)
	if err != nil {
		return broken(check, err)
	}
	defer func() { _ = conn.Close() }() // back to the pool
	var announced, actual uint32
	err = conn.Raw(func(raw any) error {
		if c, ok := raw.(*postgresConn); ok {
			announced = c.Conn.Conn().PgConn().PID()
		}
		return nil
	})
	var dropped []string
	if err == nil {
		err = conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&actual)
	}
	for _, name := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		var value string
		if err == nil {
			err = conn.QueryRowContext(ctx, "SELECT current_setting($1)", name).Scan(&value)
		}
		if value == "0" && config.RuntimeParams[name] != "0" {
			dropped = append(dropped, name)
		}
	}
	const remedy = "let kmsd connect to PostgreSQL itself, or through a pooler in session mode that passes its parameters on"
	switch {
	case err != nil:
		return broken(check, err)
	case len(dropped) > 0:
		return concern(kms.SeverityError, check, remedy,
			"the session was opened with %s, and has not got it: a process that stands still can hold up everybody else",
			strings.Join(dropped, ", "))
	case announced != actual:
		return concern(kms.SeverityWarning, check, remedy,
			"something between here and the server answers for it (process %d, announced as %d): if it is a pooler in "+
				"transaction mode, locks and notifications do not hold", actual, announced)
	}
	return finding(check, "as it was opened, with nothing in between that could be seen")
}
