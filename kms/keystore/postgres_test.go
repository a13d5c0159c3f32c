package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
	"github.com/keyholt/keyholt/softhsm-test/pgtest"
)

// openPostgres opens the store of a DSN until the test ends, with the seal key confirmed.
func openPostgres(t testing.TB, dsn string) (*keystore.Database, *keystore.Store) {
	t.Helper()
	database, store, err := tryPostgres(t.Context(), dsn)
	if err != nil {
		t.Fatalf("Open: %v (%v)", err, errors.Unwrap(err))
	}
	t.Cleanup(func() {
		if err := database.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return database, store
}

func tryPostgres(ctx context.Context, dsn string) (*keystore.Database, *keystore.Store, error) {
	database, err := keystore.Open(ctx, keystore.Config{Driver: "postgres", DSN: dsn})
	if err != nil {
		return nil, nil, err
	}
	unlock, err := database.LockSealKey(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, database.Close())
	}
	defer unlock()
	if err := database.ConfirmSealKey(ctx); err != nil {
		return nil, nil, errors.Join(err, database.Close())
	}
	store, err := database.Store(openSealer)
	if err != nil {
		return nil, nil, errors.Join(err, database.Close())
	}
	return database, store, nil
}

// withParameters adds parameters to a DSN that is a URL.
func withParameters(t testing.TB, dsn string, parameters ...string) string {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := address.Query()
	for i := 0; i < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
	}
	address.RawQuery = query.Encode()
	return address.String()
}

// executePostgres runs statements on a connection of their own.
func executePostgres(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range statements {
		if _, err := conn.Exec(t.Context(), statement, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func queryPostgres(t testing.TB, dsn, query string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(t.Context(), "SELECT ("+query+")::text").Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return value
}

// put makes a change from nothing that the store holds.
func putChange(ctx context.Context, store kms.Store, change *kms.Change) (kms.Head, error) {
	return store.Update(ctx, 0, func(*kms.Delta) (*kms.Change, error) { return change, nil })
}

// addNamespace makes one change.
func addNamespace(t testing.TB, store kms.Store, id string) kms.Head {
	t.Helper()
	head, err := putChange(t.Context(), store, &kms.Change{Namespaces: []*kms.Namespace{keystoretest.Namespace(t, id)}})
	if err != nil {
		t.Fatalf("Update: %v (%v)", err, errors.Unwrap(err))
	}
	return head
}

// namespaces returns the names that the store holds, at which head.
func namespaces(t testing.TB, store kms.Store) (kms.Head, map[string]bool) {
	t.Helper()
	contents, err := store.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v (%v)", err, errors.Unwrap(err))
	}
	names := make(map[string]bool, len(contents.Namespaces))
	for _, n := range contents.Namespaces {
		names[n.Name.ID()] = true
	}
	return contents.Head, names
}

// dropForeignKeys lets statements leave rows that refer to none.
const dropForeignKeys = `DO $$ DECLARE c record; BEGIN
	FOR c IN SELECT conname, conrelid::regclass AS relation FROM pg_constraint
		WHERE contype = 'f' AND connamespace = current_schema()::regnamespace
	LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', c.relation, c.conname); END LOOP; END $$`

func TestPostgresContract(t *testing.T) {
	cluster := pgtest.Start(t) // one that syncs: else its diagnosis is an error
	keystoretest.Run(t, func(t *testing.T) *keystoretest.Target {
		dsn := cluster.DSN(cluster.NewDatabase(t))
		database, store := openPostgres(t, dsn)
		target := &keystoretest.Target{Store: store}
		target.Reopen = func(t *testing.T) {
			if err := database.Close(); err != nil {
				t.Fatal(err)
			}
			database, target.Store = openPostgres(t, dsn)
		}
		target.Second = func(t *testing.T) kms.Store {
			_, second := openPostgres(t, dsn)
			return second
		}
		target.Exec = func(t *testing.T, statements ...string) {
			executePostgres(t, dsn, append([]string{dropForeignKeys}, statements...)...)
		}
		target.SealKey = randomUID
		return target
	})
}

// TestPostgresOpenTogether: many processes open a new store at once, which one makes.
func TestPostgresOpenTogether(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	const processes = 8
	ids, keys := make([]string, processes), make([]hsm.UID, processes)
	var all sync.WaitGroup
	for i := range processes {
		all.Go(func() {
			database, _, err := tryPostgres(t.Context(), dsn)
			if err != nil {
				t.Errorf("Open: %v (%v)", err, errors.Unwrap(err))
				return
			}
			ids[i] = database.ID()
			keys[i], _ = database.SealKey()
			if err := database.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	all.Wait()
	for i := range processes {
		if ids[i] != ids[0] || keys[i] != keys[0] {
			t.Errorf("process %d opened the store %s with seal key %s, another %s with %s", i, ids[i], keys[i], ids[0], keys[0])
		}
	}
}

// TestPostgresSealKeyMadeOnce: of those that come to a new store at once one is told to
// make the seal key.
func TestPostgresSealKeyMadeOnce(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	var all sync.WaitGroup
	var mu sync.Mutex
	makers := 0
	for range 6 {
		database, err := keystore.Open(t.Context(), keystore.Config{Driver: "postgres", DSN: dsn})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			unlock, err := database.LockSealKey(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if _, made := database.SealKey(); !made {
				mu.Lock()
				makers++
				mu.Unlock()
			}
			if err := database.ConfirmSealKey(t.Context()); err != nil {
				t.Error(err)
			}
			unlock()
			if err := database.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if makers != 1 {
		t.Errorf("%d were told to make the seal key", makers)
	}
}

func TestPostgresOpenRefuses(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Fast())
	database := func() string { return cluster.DSN(cluster.NewDatabase(t)) }
	foreign, newer, nothing := database(), database(), database()
	executePostgres(t, foreign, "CREATE TABLE keys (song text)", "CREATE TABLE albums (title text)")
	openPostgres(t, newer)
	executePostgres(t, newer, "INSERT INTO schema_versions (version_id, is_applied) VALUES (4711, true)")
	executePostgres(t, cluster.AdminDSN("postgres"),
		"CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0 OWNER keyholt")
	secret, err := url.Parse(nothing)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := secret.User.Password()
	wrong := strings.Replace(nothing, password, "not-the-password", 1)
	standby := pgtest.StartStandby(t, cluster)

	for _, test := range []struct {
		name, dsn string
		cause     error
		says      string
	}{
		{"empty", "", nil, "dsn is empty"},
		{"no DSN", "password=" + password + " two words", nil, "cannot be used: want postgres://"},
		{"broken URL", "postgres://keyholt:" + password + "%zz@127.0.0.1/x", nil, "cannot be used"},
		{"TLS file", withParameters(t, nothing, "sslmode", "verify-full", "sslrootcert", "/none.pem"), nil, "/none.pem"},
		{"weak", withParameters(t, nothing, "synchronous_commit", "local"), nil, "synchronous_commit=local"},
		{"no server", "postgres://keyholt:" + password + "@127.0.0.1:1/x", nil, "refused"},
		{"wrong password", wrong, nil, "password authentication failed"},
		{"no database", cluster.DSN("none"), nil, `database "none" does not exist`},
		{"no schema", withParameters(t, nothing, "search_path", "none"), nil, "no schema of the search_path exists"},
		{"other program", foreign, keystore.ErrForeignDatabase, "has tables of another program: keys;"},
		{"newer schema", newer, keystore.ErrNewerSchema, "4711"},
		{"encoding", cluster.DSN("latin"), nil, "the encoding LATIN1"},
		{"standby only", standby.DSN("postgres"), nil, "no host of the dsn takes writes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := keystore.Open(t.Context(), keystore.Config{Driver: "postgres", DSN: test.dsn})
			if !errors.Is(err, kms.ErrStoreUnavailable) || test.cause != nil && !errors.Is(err, test.cause) {
				t.Fatalf("Open: %v", err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("Open says %q, without %q", err, test.says)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if text := fmt.Sprintf("%v %+v", err, err); strings.Contains(text, password) || strings.Contains(text, "not-the-password") {
					t.Errorf("the password is shown: %s", text)
				}
			}
		})
	}
	if got := queryPostgres(t, foreign, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "2" {
		t.Errorf("the other program's database has now %s tables", got)
	}
}

// TestPostgresSchemas: two stores in one database, and beside another program, know nothing
// of each other.
func TestPostgresSchemas(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	executePostgres(t, dsn, "CREATE SCHEMA one", "CREATE SCHEMA two", "CREATE TABLE public.keys (song text)")
	_, one := openPostgres(t, withParameters(t, dsn, "search_path", "one,public"))
	_, two := openPostgres(t, withParameters(t, dsn, "search_path", "two,public"))
	if one.ID() == two.ID() {
		t.Error("the stores have the same identity")
	}
	addNamespace(t, one, "shop")
	if _, names := namespaces(t, two); len(names) != 0 {
		t.Errorf("the second store holds %v", names)
	}
	unlock, err := one.Lock(t.Context(), "name")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	unlockTwo, ok, err := two.TryLock(t.Context(), "name")
	if err != nil || !ok {
		t.Fatalf("a lock of the first store excludes one of the second: %v, %v", ok, err)
	}
	unlockTwo()
}

// TestPostgresSessionSettings: what the server, the database or the role has for defaults
// does not matter.
func TestPostgresSessionSettings(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Fast(), pgtest.Setting("synchronous_commit", "off"),
		pgtest.Setting("default_transaction_isolation", "serializable"), pgtest.Setting("bytea_output", "escape"))
	name := cluster.NewDatabase(t)
	executePostgres(t, cluster.AdminDSN(name), "ALTER ROLE keyholt SET synchronous_commit = off",
		"ALTER ROLE keyholt SET statement_timeout = '1ms'", "ALTER DATABASE "+name+" SET default_transaction_read_only = on")
	// Whoever makes sessions read-only means it.
	if _, err := keystore.Open(t.Context(), keystore.Config{Driver: "postgres", DSN: cluster.DSN(name)}); err == nil ||
		!strings.Contains(err.Error(), "read-only") {
		t.Errorf("Open of a read-only database: %v", err)
	}
	executePostgres(t, cluster.AdminDSN("postgres"), "ALTER DATABASE "+name+" RESET ALL")
	_, store := openPostgres(t, cluster.DSN(name))
	addNamespace(t, store, "shop")
	if f := findingOf(t, store, "durability"); !strings.Contains(f.Detail, "synchronous_commit=on") {
		t.Errorf("durability: %+v", f)
	}
	_, store = openPostgres(t, withParameters(t, cluster.DSN(name), "synchronous_commit", "remote_apply"))
	if f := findingOf(t, store, "durability"); !strings.Contains(f.Detail, "synchronous_commit=remote_apply") {
		t.Errorf("durability: %+v", f)
	}
}

// TestPostgresLeastRights: one role makes the tables, and one that owns nothing and may only
// read and change rows is enough from then on. docs/production.md has the same statements.
func TestPostgresLeastRights(t *testing.T) {
	cluster := pgtest.Start(t, pgtest.Fast())
	executePostgres(t, cluster.AdminDSN("postgres"), "CREATE ROLE keyholt_owner LOGIN PASSWORD 'owner'",
		"CREATE ROLE kmsd LOGIN PASSWORD 'kmsd'",
		"CREATE DATABASE shared OWNER keyholt_owner ENCODING 'UTF8' TEMPLATE template0",
		"ALTER ROLE keyholt_owner IN DATABASE shared SET search_path = keyholt",
		"ALTER ROLE kmsd IN DATABASE shared SET search_path = keyholt",
		"GRANT pg_monitor TO kmsd")
	executePostgres(t, cluster.AdminDSN("shared"), "CREATE SCHEMA keyholt AUTHORIZATION keyholt_owner",
		"GRANT USAGE ON SCHEMA keyholt TO kmsd",
		"ALTER DEFAULT PRIVILEGES FOR ROLE keyholt_owner IN SCHEMA keyholt GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO kmsd")
	dsn := func(role, password string) string {
		address, err := url.Parse(cluster.DSN("shared"))
		if err != nil {
			t.Fatal(err)
		}
		address.User = url.UserPassword(role, password)
		return address.String()
	}
	if _, _, err := tryPostgres(t.Context(), dsn("kmsd", "kmsd")); !errors.Is(err, kms.ErrStoreUnavailable) ||
		!strings.Contains(err.Error(), "run kmsd migrate up as the schema's owner") {
		t.Errorf("a role that may make no tables opens an empty database: %v", err)
	}
	from, to, err := keystore.Migrate(t.Context(), keystore.Config{Driver: "postgres", DSN: dsn("keyholt_owner", "owner")})
	if err != nil || from != 0 || to == 0 {
		t.Fatalf("Migrate: from %d to %d, %v", from, to, err)
	}
	_, store := openPostgres(t, dsn("kmsd", "kmsd"))
	addNamespace(t, store, "shop")
	for _, f := range store.Diagnose(t.Context()) {
		if f.Check != "durability" && f.Severity != kms.SeverityOK { // the cluster does not sync
			t.Errorf("%+v", f)
		}
	}
	if f := findingOf(t, store, "role"); !strings.Contains(f.Detail, "does not own") {
		t.Errorf("role: %+v", f)
	}
	_, store = openPostgres(t, withParameters(t, cluster.AdminDSN("shared"), "search_path", "keyholt"))
	if f := findingOf(t, store, "role"); f.Severity != kms.SeverityWarning || !strings.Contains(f.Detail, "SUPERUSER") {
		t.Errorf("the superuser: %+v", f)
	}
}

// TestPostgresSameColumns: a store moved by rows from SQLite to PostgreSQL would be good: all
// seals are over the same bytes.
func TestPostgresSameColumns(t *testing.T) {
	dsn := pgtest.NewDatabase(t)
	openPostgres(t, dsn)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable "+
		"FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_versions' "+
		"ORDER BY table_name, ordinal_position")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := storePath(t)
	database, err := keystore.Open(t.Context(), keystore.Config{Driver: "sqlite", DSN: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	want := strings.Split(query(t, path, "SELECT group_concat(line, char(10)) FROM (SELECT m.name || '.' || c.name || ' ' || "+
		"CASE c.type WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytea' ELSE 'text' END || ' ' || "+
		"CASE c.[notnull] WHEN 1 THEN 'NO' ELSE 'YES' END AS line FROM sqlite_schema m, pragma_table_info(m.name) c "+
		"WHERE m.type = 'table' AND m.name NOT IN ('schema_versions', 'sqlite_sequence') ORDER BY m.name, c.cid)"), "\n")
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the columns differ (-SQLite +PostgreSQL):\n%s", diff)
	}
}
