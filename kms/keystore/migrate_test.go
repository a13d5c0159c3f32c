package keystore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
)

func TestMigrate(t *testing.T) {
	config := keystore.Config{Driver: "sqlite", DSN: storePath(t)}
	status, err := keystore.MigrationStatus(t.Context(), config)
	if err != nil || status.Current != 0 || status.Target != 2 || len(status.Migrations) != 1 {
		t.Fatalf("the status of an empty database: %+v, %v", status, err)
	}
	if m := status.Migrations[0]; m.Schema != 2 || m.Name != "00002_initial.sql" || !m.Applied.IsZero() {
		t.Errorf("a migration of an empty database: %+v", m)
	}
	for _, want := range []int64{0, 2} {
		from, to, err := keystore.Migrate(t.Context(), config)
		if err != nil || from != want || to != 2 {
			t.Errorf("Migrate: from %d to %d, %v; want from %d", from, to, err, want)
		}
	}
	status, err = keystore.MigrationStatus(t.Context(), config)
	if err != nil || status.Current != 2 || status.Migrations[0].Applied.IsZero() {
		t.Errorf("the status afterwards: %+v, %v", status, err)
	}
	_, store := openStore(t, config.DSN)
	sample(t, store)
	if _, _, err := keystore.Migrate(t.Context(), config); !errors.Is(err, kms.ErrStoreLocked) {
		t.Errorf("Migrate while the store is open: %v", err)
	}
}

// TestMigrateRefuses holds that the schema of a store from which no way leads up is named,
// and that its status can be seen all the same.
func TestMigrateRefuses(t *testing.T) {
	for schema, want := range map[string]struct {
		cause error
		says  string
	}{
		"1":    {keystore.ErrOlderSchema, "make a new store"},
		"4711": {keystore.ErrNewerSchema, "a later release"},
	} {
		config := keystore.Config{Driver: "sqlite", DSN: storePath(t)}
		if _, _, err := keystore.Migrate(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		execute(t, config.DSN, "UPDATE schema_versions SET version_id = "+schema+" WHERE version_id = 2")
		_, _, err := keystore.Migrate(t.Context(), config)
		if !errors.Is(err, kms.ErrStoreUnavailable) || !errors.Is(err, want.cause) || !strings.Contains(err.Error(), want.says) {
			t.Errorf("Migrate from schema %s: %v", schema, err)
		}
		if status, err := keystore.MigrationStatus(t.Context(), config); err != nil || status.Target != 2 {
			t.Errorf("the status of schema %s: %+v, %v", schema, status, err)
		}
	}
}
