package keystore

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyholt/keyholt/kms"
)

// clockTolerance is how far the server's clock may be off. Nothing is decided by it, but
// whoever compares its log with ours is misled.
const clockTolerance = 2 * time.Second

func diagnosePostgres(ctx context.Context, db *sql.DB, dsn string) []kms.Finding {
	config, err := postgresConfig(dsn)
	if err != nil {
		return []kms.Finding{broken("server", err)}
	}
	return []kms.Finding{
		diagnoseServer(ctx, db),
		diagnoseSession(ctx, db, config),
		diagnoseDurability(ctx, db),
		diagnoseFailOver(ctx, db, config),
		diagnoseEncryption(ctx, db, config),
		diagnoseRole(ctx, db),
		diagnoseClock(ctx, db),
		diagnoseSize(ctx, db),
	}
}

func diagnoseServer(ctx context.Context, db *sql.DB) kms.Finding {
	const check = "server"
	var version, address, schema string
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_version'), "+
		"coalesce(host(inet_server_addr()) || ':' || inet_server_port(), 'its socket'), current_schema()").
		Scan(&version, &address, &schema)
	if err != nil {
		return broken(check, err)
	}
	return finding(check, fmt.Sprintf("PostgreSQL %s at %s, schema %s", version, address, schema))
}

// diagnoseDurability reports what the durability of a commit rests on. The first is set for
// each session; the others are the server's.
func diagnoseDurability(ctx context.Context, db *sql.DB) kms.Finding {
	const check = "durability"
	var commit, fsync, pages string
	err := db.QueryRowContext(ctx, "SELECT current_setting('synchronous_commit'), current_setting('fsync'), "+
		"current_setting('full_page_writes')").Scan(&commit, &fsync, &pages)
	if err != nil {
		return broken(check, err)
	}
	detail := fmt.Sprintf("synchronous_commit=%s fsync=%s full_page_writes=%s", commit, fsync, pages)
	switch {
	case !isDurable(commit) || fsync != "on":
		return concern(kms.SeverityError, check, "set fsync = on in postgresql.conf",
			"%s: a crash of the server's machine can lose changes, or the whole database", detail)
	case pages != "on":
		return concern(kms.SeverityWarning, check,
			"set full_page_writes = on in postgresql.conf, unless the file system never tears a page",
			"%s: a crash of the server's machine can damage the database", detail)
	}
	return finding(check, detail)
}

func diagnoseEncryption(ctx context.Context, db *sql.DB, config *pgx.ConnConfig) kms.Finding {
	const check = "encryption"
	var encrypted bool
	var version sql.NullString
	err := db.QueryRowContext(ctx, "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").
		Scan(&encrypted, &version)
	const remedy = "put sslmode=verify-full and sslrootcert=FILE into the dsn"
	switch {
	case err != nil:
		return broken(check, err)
	case isLocal(config):
		return finding(check, "the server is on this machine")
	case !encrypted:
		return concern(kms.SeverityWarning, check, remedy,
			"the connection is not encrypted: whoever is on the way can read and change the metadata's rows")
	case config.TLSConfig == nil || config.TLSConfig.InsecureSkipVerify:
		return concern(kms.SeverityWarning, check, remedy,
			"%s, but the server's certificate is not verified against its name: somebody else could answer for it", version.String)
	}
	return finding(check, version.String+", certificate verified")
}

// isLocal tells whether all hosts are reached without a network.
func isLocal(config *pgx.ConnConfig) bool {
	for _, address := range postgresHosts(config) {
		host, _, err := net.SplitHostPort(address)
		if err != nil { // the path of a socket
			continue
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// diagnoseRole warns of a role that could do more than the store needs.
func diagnoseRole(ctx context.Context, db *sql.DB) kms.Finding {
	const check = "role"
	var role, attributes string
	var owner bool
	err := db.QueryRowContext(ctx, "SELECT rolname, concat_ws(', ', CASE WHEN rolsuper THEN 'SUPERUSER' END, "+
		"CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END, "+
		"CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END), "+
		"EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('meta') AND pg_has_role(relowner, 'USAGE')) "+
		"FROM pg_roles WHERE rolname = current_user").Scan(&role, &attributes, &owner)
	switch {
	case err != nil:
		return broken(check, err)
	case attributes != "":
		return concern(kms.SeverityWarning, check, "use a role without these attributes; see docs/production.md",
			"the role %s has %s: more than the store needs", role, attributes)
	case owner:
		return finding(check, fmt.Sprintf("the role %s owns the tables; one that may only read and change rows would do", role))
	}
	return finding(check, fmt.Sprintf("the role %s may use the tables and does not own them", role))
}

func diagnoseClock(ctx context.Context, db *sql.DB) kms.Finding {
	const check = "clock"
	var seconds float64
	before := time.Now()
	err := db.QueryRowContext(ctx, "SELECT extract(epoch FROM clock_timestamp())::double precision").Scan(&seconds)
	if err != nil {
		return broken(check, err)
	}
	after := time.Now()
	server := time.UnixMicro(int64(math.Round(seconds * 1e6)))
	var off time.Duration
	switch {
	case server.Before(before):
		off = server.Sub(before)
	case server.After(after):
		off = server.Sub(after)
	}
	if off.Abs() > clockTolerance {
		return concern(kms.SeverityWarning, check, "synchronise the clocks of both machines",
			"the server's clock is %s off ours: its log and ours tell different times", off.Round(time.Millisecond))
	}
	return finding(check, fmt.Sprintf("the server's clock agrees within %s", clockTolerance))
}

func diagnoseSize(ctx context.Context, db *sql.DB) kms.Finding {
	const check = "space"
	var size int64
	var connections, most int
	err := db.QueryRowContext(ctx, "SELECT (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "+
		"WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'), "+
		"(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), "+
		"current_setting('max_connections')::integer").Scan(&size, &connections, &most)
	if err != nil {
		return broken(check, err)
	}
	detail := fmt.Sprintf("the schema has %d KiB; %d of %d connections of the server are in use", size>>10, connections, most)
	if connections > most*9/10 {
		return concern(kms.SeverityWarning, check, "raise max_connections, or let fewer programs use the server", "%s", detail)
	}
	return finding(check, detail)
}
