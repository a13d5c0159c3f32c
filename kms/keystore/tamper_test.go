package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/keystore"
)

const (
	orders  = "namespaces/shop/keys/orders"
	cards   = "namespaces/shop/keys/cards"
	oneRow  = "namespace_id = 'shop' AND key_id = 'orders' AND number = 1"
	noChain = "PRAGMA foreign_keys = OFF"
)

// tamperWith makes a sample store, lets somebody change the file, and returns what Load
// says then.
func tamperWith(t *testing.T, statements ...string) error {
	t.Helper()
	path := storePath(t)
	database, store := openStore(t, path)
	orphan := *sample(t, store).Orphans[0]
	orphan.Revision = 1
	if _, err := put(t, store, &kms.Change{RemoveOrphans: []*kms.Orphan{&orphan}}); err != nil {
		t.Fatal(err)
	}
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, path, append([]string{noChain}, statements...)...)
	_, store = openStore(t, path)
	_, err := store.Load(t.Context())
	return err
}

// names holds that the error is ErrTampered and names the row.
func names(t *testing.T, err error, row string) {
	t.Helper()
	var failure *kms.Error
	if !errors.Is(err, kms.ErrTampered) || !errors.As(err, &failure) {
		t.Errorf("Load: %v, want %v", err, kms.ErrTampered)
		return
	}
	if failure.Metadata["row"] != row || !strings.Contains(failure.Message, row) || !strings.Contains(failure.Message, "backup") {
		t.Errorf("Load says %q about %q; want it to name %q and what to do", failure.Message, failure.Metadata["row"], row)
	}
}

func TestUntampered(t *testing.T) {
	if err := tamperWith(t); err != nil {
		t.Errorf("Load of a store that nobody has changed: %v", err)
	}
}

func TestEditedColumns(t *testing.T) {
	tests := []struct{ table, set, where, row string }{
		{"namespaces", "namespace_id = 'shoq'", "", "namespaces/shoq"},
		{"namespaces", "create_time = create_time + 1", "", "namespaces/shop"},
		{"namespaces", "created_by = 'unix:1001'", "", "namespaces/shop"},
		{"namespaces", "revision = revision + 1", "", "namespaces/shop"},
		{"namespaces", "revision = -1", "", "namespaces/shop"},
		{"namespaces", "seal = zeroblob(32)", "", "namespaces/shop"},
		{"namespaces", "seal = x''", "", "namespaces/shop"},
		{"namespaces", "seal_key_id = 'seal-key-2'", "", "namespaces/shop"},

		{"keys", "namespace_id = 'shoq'", "key_id = 'orders'", "namespaces/shoq/keys/orders"},
		{"keys", "key_id = 'orderz'", "key_id = 'orders'", "namespaces/shop/keys/orderz"},
		{"keys", "purpose = 'MAC'", "key_id = 'orders'", orders},
		{"keys", "algorithm = 'AES_128'", "key_id = 'orders'", orders},
		{"keys", "profile = 'STRICT'", "key_id = 'orders'", orders},
		{"keys", "profile = 'DERIVED'", "key_id = 'cards'", cards},
		{"keys", "labels = '{}'", "key_id = 'orders'", orders},
		{"keys", "labels = replace(labels, 'prod', 'test')", "key_id = 'orders'", orders},
		{"keys", "rotation_period_ns = 0", "key_id = 'orders'", orders},
		{"keys", "primary_version = 1", "key_id = 'orders'", orders},
		{"keys", "create_time = 0", "key_id = 'orders'", orders},
		{"keys", "created_by = ''", "key_id = 'orders'", orders},
		{"keys", "revision = 0", "key_id = 'orders'", orders},
		{"keys", "seal = randomblob(32)", "key_id = 'orders'", orders},
		{"keys", "seal_key_id = ''", "key_id = 'orders'", orders},

		{"versions", "namespace_id = 'shoq'", oneRow, "namespaces/shoq/keys/orders/versions/1"},
		{"versions", "key_id = 'orderz'", oneRow, "namespaces/shop/keys/orderz/versions/1"},
		{"versions", "number = 3", oneRow, orders + "/versions/3"},
		{"versions", "uid = lower(hex(randomblob(16)))", oneRow, orders + "/versions/1"},
		{"versions", "state = 'DISABLED'", oneRow, orders + "/versions/1"},
		{"versions", "create_time = -1", oneRow, orders + "/versions/1"},
		{"versions", "state_time = NULL", oneRow, orders + "/versions/1"},
		{"versions", "state_principal = 'unix:1'", oneRow, orders + "/versions/1"},
		{"versions", "state_reason = ''", oneRow, orders + "/versions/1"},
		{"versions", "first_use = NULL", oneRow, orders + "/versions/1"},
		{"versions", "check_value = x''", oneRow, orders + "/versions/1"},
		{"versions", "request_id = ''", oneRow, orders + "/versions/1"},
		{"versions", "request_digest = substr(request_digest, 2)", oneRow, orders + "/versions/1"},
		{"versions", "request_digest = check_value, check_value = request_digest", oneRow, orders + "/versions/1"},
		{"versions", "revision = 2", oneRow, orders + "/versions/1"},
		{"versions", "seal = substr(seal, 1, 31)", oneRow, orders + "/versions/1"},
		{"versions", "seal_key_id = seal_key_id || ' '", oneRow, orders + "/versions/1"},
	}
	for _, test := range tests {
		t.Run(test.table+" "+test.set, func(t *testing.T) {
			statement := "UPDATE " + test.table + " SET " + test.set
			if test.where != "" {
				statement += " WHERE " + test.where
			}
			names(t, tamperWith(t, statement), test.row)
		})
	}
}

// TestEveryColumnIsCovered edits each column that the tables have, so that none that a
// migration adds is forgotten in the seal.
func TestEveryColumnIsCovered(t *testing.T) {
	path := storePath(t)
	openStore(t, path)
	for _, table := range []string{"origin", "namespaces", "keys", "versions", "reservations", "orphans", "removals"} {
		columns := tableColumns(t, path, table)
		if len(columns) < 5 {
			t.Errorf("%s has the columns %v", table, columns)
		}
		for column, kind := range columns {
			if column == "id" {
				continue // the schema allows 1 only
			}
			edit := map[string]string{"TEXT": "|| 'x'", "INTEGER": "+ 7", "BLOB": "|| x'00'"}[kind]
			statement := fmt.Sprintf("UPDATE %s SET %s = CAST(%s %s AS %s)", table, column, column, edit, kind)
			if err := tamperWith(t, statement); !errors.Is(err, kms.ErrTampered) {
				t.Errorf("%s: Load: %v", statement, err)
			}
		}
	}
}

// tableColumns returns the columns of a table with their types.
func tableColumns(t *testing.T, path, table string) map[string]string {
	t.Helper()
	rows, err := rawDB(t, path).QueryContext(t.Context(), "SELECT name, type FROM pragma_table_info($1)", table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns := make(map[string]string)
	for rows.Next() {
		var column, kind string
		if err := rows.Scan(&column, &kind); err != nil {
			t.Fatal(err)
		}
		columns[column] = kind
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return columns
}

func TestMovedSeals(t *testing.T) {
	swap := func(table, a, b string) []string {
		return []string{
			"CREATE TABLE kept AS SELECT seal AS a, (SELECT seal FROM " + table + " WHERE " + b + ") AS b FROM " + table + " WHERE " + a,
			"UPDATE " + table + " SET seal = (SELECT b FROM kept) WHERE " + a,
			"UPDATE " + table + " SET seal = (SELECT a FROM kept) WHERE " + b,
			"DROP TABLE kept",
		}
	}
	err := tamperWith(t, swap("keys", "key_id = 'orders'", "key_id = 'cards'")...)
	if !errors.Is(err, kms.ErrTampered) {
		t.Errorf("seals of two keys exchanged: %v", err)
	}
	err = tamperWith(t, swap("versions", oneRow, "key_id = 'orders' AND number = 2")...)
	if !errors.Is(err, kms.ErrTampered) {
		t.Errorf("seals of two versions exchanged: %v", err)
	}
}

func TestMissingHead(t *testing.T) {
	path := storePath(t)
	database, store := openStore(t, path)
	sample(t, store)
	if err := database.Close(); err != nil {
		t.Fatal(err)
	}
	execute(t, path, "DELETE FROM head")
	_, err := keystore.Open(t.Context(), keystore.Config{Driver: "sqlite", DSN: path})
	names(t, err, "table head")
}

func TestMissingRows(t *testing.T) {
	names(t, tamperWith(t, "DELETE FROM namespaces"), orders)
	names(t, tamperWith(t, "DELETE FROM keys WHERE key_id = 'orders'"), orders+"/versions/1")
	names(t, tamperWith(t, "DELETE FROM versions WHERE key_id = 'orders' AND number = 2"), orders+"/versions/2")
	names(t, tamperWith(t, "DELETE FROM versions WHERE "+oneRow), orders+"/versions/1")
	names(t, tamperWith(t, "DELETE FROM reservations"), cards+"/versions/1")
	names(t, tamperWith(t, "UPDATE head SET revision = 0"), "origin of the store")
	err := tamperWith(t, "DELETE FROM versions WHERE key_id = 'cards'")
	if !errors.Is(err, kms.ErrTampered) || !strings.Contains(err.Error(), "encryption counter of key version UID ") {
		t.Errorf("a counter without its version: %v", err)
	}
}

// TestRebuiltTables holds that rows are judged by what they hold and not by what the
// schema promises, which whoever can write the file can change too.
func TestRebuiltTables(t *testing.T) {
	rebuild := func(table, edit string) []string {
		return []string{
			"CREATE TABLE copy AS SELECT * FROM " + table,
			"DROP TABLE " + table,
			"ALTER TABLE copy RENAME TO " + table,
			edit,
		}
	}
	names(t, tamperWith(t, rebuild("versions", "INSERT INTO versions SELECT * FROM versions WHERE "+oneRow)...), orders+"/versions/1")
	names(t, tamperWith(t, rebuild("keys", "INSERT INTO keys SELECT * FROM keys WHERE key_id = 'orders'")...), orders)
	names(t, tamperWith(t, rebuild("namespaces", "INSERT INTO namespaces SELECT * FROM namespaces")...), "namespaces/shop")
	names(t, tamperWith(t, rebuild("versions", "UPDATE versions SET revision = 'first' WHERE "+oneRow)...), orders+"/versions/1")
	names(t, tamperWith(t, rebuild("versions", "UPDATE versions SET state = 2.5 WHERE "+oneRow)...), orders+"/versions/1")
	names(t, tamperWith(t, rebuild("keys", "UPDATE keys SET labels = NULL WHERE key_id = 'orders'")...), orders)
}

func TestOtherSealKey(t *testing.T) {
	database, store := openStore(t, storePath(t))
	sample(t, store)
	impostor, err := database.Store(func(_ context.Context, _ string, uid hsm.UID) (keystore.Sealer, error) {
		return renamedSealer{hmacSealer{hsm.UID{9}}, uid.String()}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = impostor.Load(t.Context())
	names(t, err, "origin of the store")
	other, err := database.Store(func(context.Context, string, hsm.UID) (keystore.Sealer, error) {
		return hmacSealer{hsm.UID{9}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Load(t.Context()); err == nil {
		t.Error("a store was read with another seal key than the one it names")
	}
}

// renamedSealer passes for another.
type renamedSealer struct {
	hmacSealer
	id string
}

func (s renamedSealer) KeyID() string { return s.id }

func TestTamperedCounter(t *testing.T) {
	for _, statement := range []string{
		"UPDATE reservations SET taken = 0",
		"UPDATE reservations SET revision = 1",
		"UPDATE reservations SET seal_key_id = 'seal-key-0'",
		"DELETE FROM reservations",
	} {
		path := storePath(t)
		database, store := openStore(t, path)
		uid := sample(t, store).Versions[2].UID
		if _, _, err := store.ReserveEncryptions(t.Context(), uid, 100, 1000); err != nil {
			t.Fatal(err)
		}
		execute(t, path, statement) // while the store is open
		if taken, _, err := store.ReserveEncryptions(t.Context(), uid, 100, 1000); !errors.Is(err, kms.ErrTampered) || taken != 0 {
			t.Errorf("%s: %d taken, %v", statement, taken, err)
		}
		if err := database.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
