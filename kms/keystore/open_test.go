package keystore_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
)

func TestSealKeyComesFirst(t *testing.T) {
	path := storePath(t)
	config := keystore.Config{Driver: "sqlite", DSN: path}
	database, err := keystore.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	uid, made := database.SealKey()
	if made {
		t.Error("a new store says that its seal key was made")
	}
	if _, err := database.Store(openSealer); !errors.Is(err, keystore.ErrSealKeyUnconfirmed) {
		t.Errorf("Store before ConfirmSealKey: %v", err)
	}
	for range 2 {
		if err := database.ConfirmSealKey(t.Context()); err != nil {
			t.Errorf("ConfirmSealKey: %v", err)
		}
	}
	if _, err := database.Store(nil); err == nil {
		t.Error("there is a store without a sealer")
	}
	for range 2 {
		if err := database.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	reopened, _ := openStore(t, path)
	if again, made := reopened.SealKey(); again != uid || !made {
		t.Errorf("the seal key was %s and is now %s, made: %v", uid, again, made)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	directory := t.TempDir()
	text := filepath.Join(directory, "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("not a database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(directory, "foreign.db")
	execute(t, foreign, "CREATE TABLE songs (title TEXT)")
	newer := filepath.Join(directory, "newer.db")
	database, _ := openStore(t, newer)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, newer, "INSERT INTO schema_versions (version_id, is_applied) VALUES (4711, 1)")
	older := filepath.Join(directory, "older.db")
	database, _ = openStore(t, older)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, older, "UPDATE schema_versions SET version_id = 1 WHERE version_id = 2")
	unreadable := filepath.Join(directory, "unreadable.db")
	if err := os.Mkdir(unreadable, 0o700); err != nil {
		t.Fatal(err)
	}

	tests := []struct {
		name   string
		config keystore.Config
		cause  error
		says   string
	}{
		{"no driver", keystore.Config{DSN: text}, nil, `no store driver ""`},
		{"unknown driver", keystore.Config{Driver: "oracle", DSN: text}, nil, `no store driver "oracle"`},
		{"no path", keystore.Config{Driver: "sqlite"}, nil, "dsn is empty"},
		{"no directory", keystore.Config{Driver: "sqlite", DSN: filepath.Join(directory, "no", "store.db")}, os.ErrNotExist, "no"},
		{"no database", keystore.Config{Driver: "sqlite", DSN: text}, keystore.ErrForeignDatabase, "not a SQLite database"},
		{"other program", keystore.Config{Driver: "sqlite", DSN: foreign}, keystore.ErrForeignDatabase, "another program"},
		{"newer schema", keystore.Config{Driver: "sqlite", DSN: newer}, keystore.ErrNewerSchema, "4711"},
		{"development schema", keystore.Config{Driver: "sqlite", DSN: older}, keystore.ErrOlderSchema, "development version"},
		{"directory", keystore.Config{Driver: "sqlite", DSN: unreadable}, nil, "cannot open"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := keystore.Open(t.Context(), test.config)
			if !errors.Is(err, kms.ErrStoreUnavailable) || test.cause != nil && !errors.Is(err, test.cause) {
				t.Errorf("Open: %v", err)
			}
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("Open says %q, without %q", err, test.says)
			}
			// The refusal leaves no lock behind.
			if _, again := keystore.Open(t.Context(), test.config); errors.Is(again, kms.ErrStoreLocked) {
				t.Errorf("Open again: %v", again)
			}
		})
	}
	if got := query(t, foreign, "SELECT count(*) FROM sqlite_schema"); got != "1" {
		t.Errorf("the other program's database has now %s tables", got)
	}
}

func TestStrangePaths(t *testing.T) {
	for _, name := range []string{"a b?c=d&mode=memory.db", "50%.db", "#hash.db", "ümlaut.db", "file:x.db"} {
		path := filepath.Join(t.TempDir(), name)
		_, store := openStore(t, path)
		sample(t, store)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestLockSameProcess(t *testing.T) {
	path := storePath(t)
	database, _ := openStore(t, path)
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		_, err := keystore.Open(t.Context(), keystore.Config{Driver: "sqlite", DSN: name})
		if !errors.Is(err, kms.ErrStoreLocked) || !strings.Contains(err.Error(), path+" is in use by this process") {
			t.Errorf("a second Open of %s: %v", name, err)
		}
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	openStore(t, path)
}

func TestLockOtherProcess(t *testing.T) {
	path := storePath(t)
	database, _ := openStore(t, path)
	out, err := child(t, "open", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("locked: the store %s is in use by process %d;", path, os.Getpid()); !strings.HasPrefix(string(out), want) {
		t.Errorf("a second process: %q, want %q", out, want)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, "open", path).Output(); err != nil || string(out) != "opened\n" {
		t.Errorf("after Close: %q, %v", out, err)
	}
}

// openOnce is the child that opens the store and says what became of it.
func openOnce(path string, say func(...any)) {
	database, err := keystore.Open(context.Background(), keystore.Config{Driver: "sqlite", DSN: path})
	switch {
	case errors.Is(err, kms.ErrStoreLocked):
		say("locked:", err)
	case err != nil:
		say("failed:", err)
	default:
		say("opened")
		_ = database.Close()
	}
}

func TestIdentityRemoved(t *testing.T) {
	path := storePath(t)
	database, store := openStore(t, path)
	sample(t, store)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, path, "DELETE FROM meta")
	if _, err := keystore.Open(t.Context(), keystore.Config{Driver: "sqlite", DSN: path}); !errors.Is(err, kms.ErrTampered) {
		t.Errorf("a store without its identity: %v", err)
	}
}

func TestClosed(t *testing.T) {
	database, store := openStore(t, storePath(t))
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Load(t.Context()); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("Load of a closed store: %v", err)
	}
}

// rawDB opens the file with nothing of this package between: as somebody would who can
// write the file.
func rawDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// execute runs statements on the file, which no store may have open.
func execute(t testing.TB, path string, statements ...string) {
	t.Helper()
	db := rawDB(t, path)
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// query returns the single value that a statement finds in the file.
func query(t testing.TB, path, statement string) (value string) {
	t.Helper()
	if err := rawDB(t, path).QueryRowContext(t.Context(), statement).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}
