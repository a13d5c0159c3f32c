package keystore

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectTimeout is how long a host may take to accept a connection unless the DSN says
// otherwise (connect_timeout). With several hosts it is what a dead one costs before the
// next is tried.
const connectTimeout = 2 * time.Second

// postgresSettings are the server's parameters that every session is opened with. The
// DSN may name others, all but synchronous_commit, which must be at least "on".
//
// Transactions are short and the head's row is what they wait for. So whoever holds it and
// says nothing, such as a process that was stopped, loses it after
// idle_in_transaction_session_timeout. statement_timeout never cuts a commit short: the
// server ends it before it commits.
var postgresSettings = map[string]string{
	"application_name":                    "kmsd",
	"client_encoding":                     "UTF8",
	"synchronous_commit":                  "on",
	"statement_timeout":                   "30s",
	"lock_timeout":                        "10s",
	"idle_in_transaction_session_timeout": "1s",
	// The server's side of a connection whose other side is gone without a word keeps locks.
	"tcp_keepalives_idle":     "5",
	"tcp_keepalives_interval": "2",
	"tcp_keepalives_count":    "3",
	"tcp_user_timeout":        "10000",
}

// postgresConfig reads a DSN: a URL or key=value words, as libpq
// (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING) and its
// environment variables. It is read for each connection, so that a changed password file
// or certificate is used by the next one.
func postgresConfig(dsn string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, unavailable(nil, "the store's dsn cannot be used: %s", dsnProblem(err))
	}
	for name, value := range postgresSettings {
		if _, ok := config.RuntimeParams[name]; !ok {
			config.RuntimeParams[name] = value
		}
	}
	if value := config.RuntimeParams["synchronous_commit"]; !isDurable(value) {
		return nil, unavailable(nil, "the store's dsn has synchronous_commit=%s, with which commits can be lost; "+
			"remove it, or use on or remote_apply", clip(value))
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	config.DialFunc = (&net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control:         limitUnacknowledged,
	}).DialContext
	return config, nil
}

// isDurable tells whether a commit with this synchronous_commit is on disk when it
// returns: here and, if there is one, on the synchronous standby.
func isDurable(synchronousCommit string) bool {
	switch strings.ToLower(synchronousCommit) {
	case "on", "true", "yes", "1", "remote_apply":
		return true
	default:
		return false
	}
}

// dsnProblem is what is wrong with a DSN without any part of it that could be a password: a
// DSN that does not parse may have one anywhere.
func dsnProblem(err error) string {
	const form = "want postgres://USER@HOST/DATABASE?sslmode=verify-full, or words key=value"
	var parse *pgconn.ParseConfigError
	if !errors.As(err, &parse) {
		return form
	}
	// The text is: cannot parse `DSN`: what is wrong
	text := err.Error()
	if end := strings.LastIndex(text, "`: "); end >= 0 {
		text = text[end+len("`: "):]
	}
	if text == "" || strings.HasPrefix(text, "failed to parse as ") || strings.Contains(text, "`") {
		return form
	}
	return text
}

// hasPassword tells whether a password stands in the DSN itself, and not in a file that it
// names.
func hasPassword(dsn string) bool {
	if address, err := url.Parse(dsn); err == nil && address.Scheme != "" {
		_, ok := address.User.Password()
		query := address.Query()
		return ok || query.Has("password") || query.Has("sslpassword")
	}
	return passwordWord.MatchString(dsn)
}

// passwordWord is the beginning of password=... or sslpassword=... among the words of a DSN.
var passwordWord = regexp.MustCompile(`(^|\s)(ssl)?password\s*=`)

// postgresLocation names the hosts, the database and the role of a DSN, and nothing else.
func postgresLocation(dsn string) string {
	config, err := postgresConfig(dsn)
	if err != nil {
		return "a dsn that cannot be used"
	}
	return fmt.Sprintf("database %s at %s as %s", config.Database, strings.Join(postgresHosts(config), ", "), config.User)
}

// postgresHosts returns the addresses that a connection is tried to, in order: host:port,
// or the path of a socket.
func postgresHosts(config *pgx.ConnConfig) []string {
	_, address := pgconn.NetworkAddress(config.Host, config.Port)
	hosts := []string{address}
	for _, fallback := range config.Fallbacks {
		_, address := pgconn.NetworkAddress(fallback.Host, fallback.Port)
		if !slices.Contains(hosts, address) { // with and without TLS
			hosts = append(hosts, address)
		}
	}
	return hosts
}

// withSettings returns a copy of the configuration whose sessions have other parameters.
func withSettings(config *pgx.ConnConfig, settings map[string]string) *pgx.ConnConfig {
	changed := config.Copy()
	maps.Copy(changed.RuntimeParams, settings)
	return changed
}

// milliseconds is a duration in the form of the server's parameters.
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }
