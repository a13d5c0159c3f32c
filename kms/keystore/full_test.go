package keystore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore/keystoretest"
)

// zeroSealer gives every row the same seal: what is tested here is not the seals.
type zeroSealer struct{ id string }

func (s zeroSealer) KeyID() string      { return s.id }
func (zeroSealer) Seal([]byte) [32]byte { return [32]byte{} }

// TestFull lets SQLite run out of pages (SQLITE_FULL, as with a full disk), and gives it
// room again.
func TestFull(t *testing.T) {
	database, err := Open(t.Context(), Config{Driver: "sqlite", DSN: filepath.Join(t.TempDir(), "keyholt.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer database.Close()
	if err := database.ConfirmSealKey(t.Context()); err != nil {
		t.Fatal(err)
	}
	store, err := database.Store(func(_ context.Context, _ string, uid hsm.UID) (Sealer, error) { return zeroSealer{uid.String()}, nil })
	if err != nil {
		t.Fatal(err)
	}
	namespace := keystoretest.Namespace(t, "shop")
	key := keystoretest.Key(t, namespace, "cards", kms.ProfileStrict)
	first := keystoretest.Version(key, 1)
	revision, err := commitFull(t, store, &kms.Change{
		Namespaces: []*kms.Namespace{namespace}, Keys: []*kms.Key{key}, Versions: []*kms.Version{first},
	})
	if err != nil {
		t.Fatal(err)
	}

	setMaxPages(t, database, 1) // no fewer than it has: it cannot grow
	number, acknowledged := uint32(1), revision
	for err == nil && number < 10_000 {
		number++
		acknowledged = revision
		revision, err = commitFull(t, store, &kms.Change{Versions: []*kms.Version{keystoretest.Version(key, number)}})
	}
	if !errors.Is(err, kms.ErrStoreUnavailable) || !isSQLiteError(err, sqlite3.SQLITE_FULL) {
		t.Fatalf("Commit to a full database: %v, because of %v", err, errors.Unwrap(err))
	}
	before := loadFull(t, store, acknowledged, int(number-1))
	if _, err := commitFull(t, store, &kms.Change{Versions: manyVersions(key, number, 100)}); !errors.Is(err, kms.ErrStoreUnavailable) {
		t.Errorf("a large Commit to a full database: %v", err)
	}
	if diff := cmp.Diff(before, loadFull(t, store, acknowledged, int(number-1)),
		cmp.AllowUnexported(kms.NamespaceName{}, kms.KeyName{}, kms.VersionName{})); diff != "" {
		t.Errorf("the refused changes left something (-before +after):\n%s", diff)
	}
	if _, _, err := store.ReserveEncryptions(t.Context(), first.UID, 1, 10); err != nil {
		t.Errorf("a reservation, which needs no room: %v", err)
	}
	acknowledged++ // a reservation has a revision of its own

	setMaxPages(t, database, 1<<30)
	revision, err = commitFull(t, store, &kms.Change{Versions: manyVersions(key, number, 100)})
	if err != nil || revision != acknowledged+1 {
		t.Fatalf("Commit with room again: revision %d after %d, %v", revision, acknowledged, err)
	}
	loadFull(t, store, revision, int(number-1)+100)
}

func commitFull(t *testing.T, store *Store, change *kms.Change) (kms.Revision, error) {
	t.Helper()
	head, err := store.Update(t.Context(), 0, func(*kms.Delta) (*kms.Change, error) { return change, nil })
	return head.Revision, err
}

// setMaxPages limits how many pages the file may have, at the least those that it has.
// The limit belongs to the connection: there is only one.
func setMaxPages(t *testing.T, database *Database, pages int) {
	t.Helper()
	if _, err := database.connection.db.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
		t.Fatal(err)
	}
}

func manyVersions(key *kms.Key, first uint32, n int) []*kms.Version {
	versions := make([]*kms.Version, n)
	for i := range versions {
		versions[i] = keystoretest.Version(key, first+uint32(i))
	}
	return versions
}

func loadFull(t *testing.T, store *Store, revision kms.Revision, versions int) *kms.Contents {
	t.Helper()
	contents, err := store.Load(t.Context())
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	if contents.Head.Revision != revision || len(contents.Versions) != versions {
		t.Fatalf("revision %d with %d versions, want %d with %d", contents.Head.Revision, len(contents.Versions), revision, versions)
	}
	return contents
}
