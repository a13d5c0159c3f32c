package keystore_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
)

// findingOf returns what the store's diagnosis says of one check.
func findingOf(t *testing.T, store *keystore.Store, check string) kms.Finding {
	t.Helper()
	for _, f := range store.Diagnose(t.Context()) {
		if f.Check == check {
			return f
		}
	}
	t.Fatalf("nothing was found of %s", check)
	return kms.Finding{}
}

func TestDiagnoseSound(t *testing.T) {
	path := storePath(t)
	_, store := openStore(t, path)
	sample(t, store)
	for check, detail := range map[string]string{
		"location":    "sqlite " + path,
		"schema":      "schema version 2",
		"durability":  "journal_mode=wal synchronous=FULL",
		"integrity":   "nothing wrong",
		"permissions": "only the owner",
		"space":       "MiB are free",
	} {
		if f := findingOf(t, store, check); !strings.Contains(f.Detail, detail) {
			t.Errorf("%s: %q, want it to say %q", check, f.Detail, detail)
		}
	}
}

func TestDiagnosePermissions(t *testing.T) {
	path := storePath(t)
	_, store := openStore(t, path)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	f := findingOf(t, store, "permissions")
	if f.Severity != kms.SeverityWarning || !strings.Contains(f.Detail, "0644") || f.Remedy != "chmod 600 "+path {
		t.Errorf("a file that others can read: %+v", f)
	}
}

// TestDamagedFile overwrites the page that the table of versions begins with.
func TestDamagedFile(t *testing.T) {
	path := storePath(t)
	database, store := openStore(t, path)
	sample(t, store)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	page, err := strconv.ParseInt(query(t, path, "SELECT rootpage FROM sqlite_schema WHERE name = 'versions'"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const size = 4096
	if _, err := file.WriteAt(make([]byte, size), (page-1)*size); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	_, store = openStore(t, path)
	if f := findingOf(t, store, "integrity"); f.Severity != kms.SeverityError || f.Remedy == "" {
		t.Errorf("a damaged file: %+v", f)
	}
	if _, err := store.Load(t.Context()); !errors.Is(err, kms.ErrStoreUnavailable) && !errors.Is(err, kms.ErrTampered) {
		t.Errorf("Load of a damaged file: %v", err)
	}
}
