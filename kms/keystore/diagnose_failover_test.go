package keystore_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// What lets a fail-over lose changes, or needs care, is told.
func TestPostgresFailOverFindings(t *testing.T) {
	primary := pgtest.Start(t, pgtest.Fast())
	database := primary.NewDatabase(t)
	admin := primary.AdminDSN(database)
	first := standbyName(pgtest.StartStandby(t, primary))
	second := standbyName(pgtest.StartStandby(t, primary))
	_, store := openPostgres(t, withParameters(t, admin, "synchronous_commit", "on"))
	for _, c := range []struct {
		names    string
		severity kms.Severity
		detail   string
	}{
		{"", kms.SeverityWarning, "none is synchronous"},
		{"*", kms.SeverityWarning, "whatever streams WAL counts"},
		{"FIRST 1 (" + first + ", \"*\")", kms.SeverityWarning, "whatever streams WAL counts"},
		{"ANY 1 (" + first + "," + second + ")", kms.SeverityOK, "on 1 of 2 when it is acknowledged"},
		{"any 2 (" + first + "," + second + ")", kms.SeverityOK, "synchronous standby: "},
		{first + ", " + second, kms.SeverityOK, "fail over only to one that is sync"},
		{"FIRST 2 (" + first + ", " + second + ")", kms.SeverityOK, "synchronous standby: "},
		{"elsewhere", kms.SeverityError, "no synchronous standby is connected"},
	} {
		executePostgres(t, admin, "ALTER SYSTEM SET synchronous_standby_names = '"+c.names+"'", "SELECT pg_reload_conf()")
		var found kms.Finding
		await(t, "the finding of "+c.names, func() bool { // the walsenders take the setting when they look
			found = findingOf(t, store, "fail-over")
			return found.Severity == c.severity && strings.Contains(found.Detail, c.detail)
		})
	}
	executePostgres(t, admin, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
}

func standbyName(c *pgtest.Cluster) string { return "keyholt_" + strconv.Itoa(c.Port()) }

// A pooler that drops what a session is opened with, or that announces another process than
// the one that answers, is noticed.
func TestPostgresPoolerIsNoticed(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	_, direct := openPostgres(t, dsn)
	if f := findingOf(t, direct, "session"); f.Severity != kms.SeverityOK {
		t.Errorf("directly: %+v", f)
	}
	for drops, want := range map[bool]string{true: "has not got it", false: "announced as"} {
		_, store := openPostgres(t, throughPooler(t, dsn, drops))
		if f := findingOf(t, store, "session"); f.Severity == kms.SeverityOK || !strings.Contains(f.Detail, want) {
			t.Errorf("a pooler that drops parameters %v: %+v", drops, f)
		}
	}
}

// throughPooler starts what looks like a pooler, and returns the DSN of the way through it.
func throughPooler(t *testing.T, dsn string, drops bool) string {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	server := address.Host
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = client.Close() }()
				_ = pool(t, client, server, drops) // its end is that of the connection
			}()
		}
	}()
	address.Host = listener.Addr().String()
	return address.String()
}

// pool passes a connection on (https://www.postgresql.org/docs/current/protocol-message-formats.html).
func pool(t *testing.T, client net.Conn, server string, drops bool) error {
	backend, err := new(net.Dialer).DialContext(t.Context(), "tcp", server)
	if err != nil {
		return err
	}
	defer func() { _ = backend.Close() }()
	// StartupMessage: length, protocol, pairs of strings that end with 0, and a 0.
	head := make([]byte, 8)
	if _, err := io.ReadFull(client, head); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(head)-8)
	if _, err := io.ReadFull(client, body); err != nil {
		return err
	}
	if drops {
		words := strings.Split(string(body), "\x00")
		var kept strings.Builder
		for i := 0; i+1 < len(words) && words[i] != ""; i += 2 {
			if words[i] == "user" || words[i] == "database" {
				kept.WriteString(words[i] + "\x00" + words[i+1] + "\x00")
			}
		}
		body = []byte(kept.String() + "\x00")
		binary.BigEndian.PutUint32(head, uint32(len(body)+8))
	}
	if _, err := backend.Write(append(head, body...)); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(backend, client)
		_ = backend.Close()
	}()
	for { // messages: a type, a length that counts itself, and the rest
		head := make([]byte, 5)
		if _, err := io.ReadFull(backend, head); err != nil {
			return err
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(backend, rest); err != nil {
			return err
		}
		if head[0] == 'K' { // BackendKeyData begins with the process
			binary.BigEndian.PutUint32(rest, 1)
		}
		if _, err := client.Write(append(head, rest...)); err != nil {
			return err
		}
	}
}
