package keystoretest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/kms"
)

var tamperTests = []test{
	{"TamperEdit", testTamperEdit},
	{"TamperDelete", testTamperDelete},
	{"TamperPutBack", testTamperPutBack},
	{"TamperResurrect", testTamperResurrect},
	{"TamperDelta", testTamperDelta},
	{"TamperReservation", testTamperReservation},
	{"TamperHead", testTamperHead},
	{"TamperWholeStore", testTamperWholeStore},
}

// sealedRow is one row of each sealed table, and columns of it to edit.
type sealedRow struct {
	table, where string
	names        string   // in the error
	edits        []string // beside revision, seal and seal_key_id
}

// sealedRows are rows of what prepare leaves.
func sealedRows() []sealedRow {
	const version = "namespace_id = 'shop' AND key_id = 'orders' AND number = 1"
	return []sealedRow{
		{"origin", "id = 1", "origin of the store", []string{"epoch = epoch + 1", "reason = 'none'", "changed_time = 0"}},
		{"namespaces", "namespace_id = 'shop'", "namespaces/shop", []string{"created_by = 'me'", "create_time = 0"}},
		{"keys", "key_id = 'orders'", "namespaces/shop/keys/orders",
			[]string{"labels = '{}'", "primary_version = 1", "profile = 'STRICT'"}},
		{"versions", version, "namespaces/shop/keys/orders/versions/1", []string{
			"state = 'DISABLED'", "destroy_time = NULL", "restore_to = NULL", "epoch = 0", "restore_to = 'DISABLED'",
			"request_digest = check_value", "attributes = ''", "imported = 0"}},
		{"reservations", "taken > 0", "encryption counter", []string{"taken = 0", "taken = taken - 1"}},
		{"orphans", "principal = 'unix:0'", "orphan", []string{"destroy_time = destroy_time - 1", "label = ''"}},
		{"import_jobs", "job_id = 'laptop'", "namespaces/shop/importJobs/laptop", []string{
			"expire_time = expire_time + 1", "state = 'EXPIRED'", "public_key = request_digest", "attributes = ''",
			"method = 'RSA_OAEP_3072_SHA1_AES_256'"}},
		{"removals", "kind = 'orphan'", "removal of the orphan", []string{"name = '00000000000000000000000000000000'"}},
	}
}

// prepare fills the store such that each table has a row that has changed once.
func prepare(t *testing.T, target *Target) (earlier, now *kms.Contents) {
	t.Helper()
	if target.Exec == nil {
		t.Skip("nobody can get at the rows")
	}
	earlier = populate(t, target.Store)
	reserve(t, target.Store, earlier)
	removed := Orphan()
	made := commit(t, target.Store, &kms.Change{Orphans: []*kms.Orphan{removed}})
	removed.Revision = made.Revision
	commit(t, target.Store, &kms.Change{RemoveOrphans: []*kms.Orphan{removed}})
	return earlier, load(t, target.Store)
}

// change changes every row that was there, and removes an orphan.
func change(t *testing.T, store kms.Store) *kms.Contents {
	t.Helper()
	c := load(t, store)
	version := *c.Versions[0]
	for _, v := range c.Versions {
		if v.Name.String() == "namespaces/shop/keys/orders/versions/1" {
			version = *v
		}
	}
	version.State = kms.StateRevoked
	commit(t, store, &kms.Change{
		Origin: c.Origin, Namespaces: c.Namespaces, Keys: c.Keys, Versions: []*kms.Version{&version},
		Orphans: c.Orphans[1:], RemoveOrphans: c.Orphans[:1], ImportJobs: c.ImportJobs,
	})
	reserve(t, store, c)
	return load(t, store)
}

func reserve(t *testing.T, store kms.Store, c *kms.Contents) {
	t.Helper()
	for _, v := range c.Versions {
		if v.Name.String() == "namespaces/shop/keys/cards/versions/1" {
			if _, _, err := store.ReserveEncryptions(t.Context(), v.UID, 7, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// noticed holds that the store cannot be loaded, neither by those who have it open nor by
// those who open it, and that the error says something.
func noticed(t *testing.T, target *Target, says string) {
	t.Helper()
	for range 2 {
		_, err := target.Store.Load(t.Context())
		if !errors.Is(err, kms.ErrTampered) || !strings.Contains(err.Error(), says) {
			t.Errorf("Load: %v, want %v that says %q", err, kms.ErrTampered, says)
		}
		target.Reopen(t)
	}
}

// keep and restore copy rows of a table aside and back again.
func keep(table, where string) []string {
	return []string{"CREATE TABLE kept_" + table + " AS SELECT * FROM " + table + " WHERE " + where}
}

func restore(table, where string) []string {
	return []string{
		"DELETE FROM " + table + " WHERE " + where,
		"INSERT INTO " + table + " SELECT * FROM kept_" + table,
		"DROP TABLE kept_" + table,
	}
}

func testTamperEdit(t *testing.T, target *Target) {
	prepare(t, target)
	for _, row := range sealedRows() {
		edits := append([]string{
			"revision = revision - 1", "revision = revision + 1000", "seal_key_id = 'another'", "seal = (SELECT seal FROM head)",
		}, row.edits...)
		for _, edit := range edits {
			target.Exec(t, keep(row.table, row.where)[0],
				fmt.Sprintf("UPDATE %s SET %s WHERE %s", row.table, edit, row.where))
			names := row.names
			if strings.HasPrefix(edit, "name = ") {
				names = "removal"
			}
			noticed(t, target, names)
			// The row is found by another column if the edited one names it.
			where := "seal IN (SELECT seal FROM kept_" + row.table + ") OR " + row.where
			target.Exec(t, restore(row.table, where)...)
		}
		load(t, target.Store)
	}
}

func testTamperDelete(t *testing.T, target *Target) {
	prepare(t, target)
	says := map[string]string{
		"namespaces": "the row of its namespace is missing", "keys": "the row of its key is missing",
		"versions": "orders/versions/1", "reservations": "its encryption counter is missing",
	}
	for _, row := range sealedRows() {
		target.Exec(t, append(keep(row.table, row.where), "DELETE FROM "+row.table+" WHERE "+row.where)...)
		noticed(t, target, says[row.table]) // of the others the count of rows tells
		target.Exec(t, restore(row.table, row.where)...)
		load(t, target.Store)
	}
}

// testTamperPutBack puts each row back to an older state of itself, with its good seal.
func testTamperPutBack(t *testing.T, target *Target) {
	prepare(t, target)
	var rows []sealedRow
	for _, row := range sealedRows() {
		if row.table != "removals" { // which is the same for good
			rows = append(rows, row)
			target.Exec(t, keep(row.table, row.where)...)
		}
	}
	now := change(t, target.Store)
	for _, row := range rows {
		newer := "CREATE TABLE newer AS SELECT * FROM " + row.table + " WHERE " + row.where
		back := restore(row.table, row.where)
		target.Exec(t, newer, back[0], back[1])
		says := "older state"
		if row.table == "orphans" { // one of the two was removed
			says = "orphan=2 rows, but the head says orphan=1"
		}
		noticed(t, target, says)
		target.Exec(t, back[0], "INSERT INTO "+row.table+" SELECT * FROM newer", "DROP TABLE newer")
		if diff := cmp.Diff(now, load(t, target.Store), compare...); diff != "" {
			t.Fatalf("the test has changed %s:\n%s", row.table, diff)
		}
	}
}

// testTamperResurrect puts back rows that were removed, alone and without the record of
// their removal.
func testTamperResurrect(t *testing.T, target *Target) {
	prepare(t, target)
	target.Exec(t, keep("orphans", "1 = 1")...)
	change(t, target.Store)
	const gone = "uid NOT IN (SELECT uid FROM orphans)"
	target.Exec(t, "INSERT INTO orphans SELECT * FROM kept_orphans WHERE "+gone)
	noticed(t, target, "orphan=2 rows, but the head says orphan=1")
	target.Exec(t, "DELETE FROM removals WHERE name IN (SELECT uid FROM orphans)")
	noticed(t, target, "rows")
}

// testTamperDelta holds that a process that has the store open notices what happens to
// the rows that others have changed.
func testTamperDelta(t *testing.T, target *Target) {
	other := target.second(t)
	prepare(t, target)
	since := load(t, other).Head.Revision
	target.Exec(t, keep("versions", "1 = 1")...)
	target.Exec(t, keep("removals", "1 = 1")...)
	change(t, target.Store)
	for what, statements := range map[string][]string{
		"put back":        restore("versions", "1 = 1")[:2],
		"edited":          {"UPDATE versions SET state = 'ENABLED'"},
		"removal deleted": restore("removals", "1 = 1")[:2],
		"head put back":   {"UPDATE head SET revision = revision - 1"},
	} {
		target.Exec(t, "CREATE TABLE newer_versions AS SELECT * FROM versions",
			"CREATE TABLE newer_removals AS SELECT * FROM removals", "CREATE TABLE newer_head AS SELECT * FROM head")
		target.Exec(t, statements...)
		if _, err := other.Changes(t.Context(), since); !errors.Is(err, kms.ErrTampered) {
			t.Errorf("%s: Changes: %v", what, err)
		}
		_, err := other.Update(t.Context(), since, func(*kms.Delta) (*kms.Change, error) {
			t.Errorf("%s: Update goes on", what)
			return nil, nil
		})
		if !errors.Is(err, kms.ErrTampered) {
			t.Errorf("%s: Update: %v", what, err)
		}
		for _, table := range []string{"versions", "removals", "head"} {
			target.Exec(t, "DELETE FROM "+table, "INSERT INTO "+table+" SELECT * FROM newer_"+table, "DROP TABLE newer_"+table)
		}
	}
	changes(t, other, since)

	// What the other store has seen itself it knows too.
	target.Exec(t, restore("versions", "1 = 1")[:2]...)
	if _, err := other.Changes(t.Context(), since); !errors.Is(err, kms.ErrTampered) {
		t.Errorf("rows put back that were seen already: %v", err)
	}
}

// testTamperReservation holds that no encryption is given out again after its counter was
// put back.
func testTamperReservation(t *testing.T, target *Target) {
	contents, _ := prepare(t, target)
	uid := contents.Versions[2].UID
	target.Exec(t, keep("reservations", "1 = 1")...)
	reserve(t, target.Store, contents)
	target.Exec(t, restore("reservations", "1 = 1")...)
	for range 2 {
		if _, _, err := target.Store.ReserveEncryptions(t.Context(), uid, 1, 1000); !errors.Is(err, kms.ErrTampered) {
			t.Errorf("ReserveEncryptions: %v", err)
		}
		target.Reopen(t)
	}
}

func testTamperHead(t *testing.T, target *Target) {
	prepare(t, target)
	target.Exec(t, keep("head", "1 = 1")...)
	for statement, says := range map[string]string{
		"DELETE FROM head": "table head",
		"UPDATE head SET seal = (SELECT seal FROM namespaces)":             "head",
		"UPDATE head SET revision = revision + 1":                          "head",
		"UPDATE head SET revision = 1":                                     "it is of revision",
		"UPDATE head SET revision = 0":                                     "the store is at 0",
		"UPDATE head SET counts = 'none'":                                  "rows",
		"UPDATE head SET seal_key_id = '00000000000000000000000000000001'": "",
		"UPDATE head SET revision = -1":                                    "the revision is -1",
	} {
		target.Exec(t, statement)
		_, err := target.Store.Load(t.Context())
		if err == nil || !strings.Contains(err.Error(), says) || says != "" && !errors.Is(err, kms.ErrTampered) {
			t.Errorf("%s: Load: %v, want it to say %q", statement, err, says)
		}
		target.Exec(t, "DELETE FROM head", "INSERT INTO head SELECT * FROM kept_head")
		target.Reopen(t)
		load(t, target.Store)
	}
}

// holdsNoLease holds that a process that has seen changes which the store does not hold
// neither joins nor renews, and leaves its row as it is. Row "held" was there before.
func holdsNoLease(t *testing.T, store kms.Store) {
	t.Helper()
	if _, err := store.InsertLease(t.Context(), sampleLease("new")); !errors.Is(err, kms.ErrStoreWentBack) {
		t.Errorf("InsertLease by who knows better: %v", err)
	}
	renewed := sampleLease("held")
	renewed.Counter, renewed.Applied = 7, 8
	if _, err := store.RenewLease(t.Context(), renewed); !errors.Is(err, kms.ErrStoreWentBack) {
		t.Errorf("RenewLease by who knows better: %v", err)
	}
	rows, _, err := store.Leases(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]*kms.Lease{sampleLease("held")}, rows, compare...); diff != "" {
		t.Errorf("the leases (-want +got):\n%s", diff)
	}
}

// testTamperWholeStore puts the whole store back to an older state of itself, which is
// sound: whoever has it open notices, and whoever opens it needs the head that was noted
// elsewhere.
func testTamperWholeStore(t *testing.T, target *Target) {
	_, old := prepare(t, target)
	if _, err := target.Store.InsertLease(t.Context(), sampleLease("held")); err != nil {
		t.Fatal(err)
	}
	tables := []string{"head"}
	for _, row := range sealedRows() {
		tables = append(tables, row.table)
	}
	for _, table := range tables {
		target.Exec(t, keep(table, "1 = 1")...)
	}
	now := change(t, target.Store)
	for _, table := range tables {
		target.Exec(t, restore(table, "1 = 1")...)
	}
	if _, err := target.Store.Load(t.Context()); !errors.Is(err, kms.ErrStoreWentBack) {
		t.Errorf("Load by who knows better: %v", err)
	}
	if _, err := target.Store.Changes(t.Context(), old.Head.Revision); !errors.Is(err, kms.ErrStoreWentBack) {
		t.Errorf("Changes by who knows better: %v", err)
	}
	if _, err := put(t.Context(), target.Store, &kms.Change{}); !errors.Is(err, kms.ErrStoreWentBack) {
		t.Errorf("Update by who knows better: %v", err)
	}
	holdsNoLease(t, target.Store)

	// The store goes on from there, by one who does not know, to the revision that the
	// other has seen: it is another history.
	knows := target.Store
	if target.Second != nil {
		fresh := target.second(t)
		for range now.Head.Revision - old.Head.Revision {
			commit(t, fresh, &kms.Change{})
		}
		for range 2 {
			if _, err := knows.Changes(t.Context(), old.Head.Revision); !errors.Is(err, kms.ErrStoreWentBack) {
				t.Errorf("Changes of another history: %v", err)
			}
			if _, err := knows.Load(t.Context()); !errors.Is(err, kms.ErrStoreWentBack) {
				t.Errorf("Load of another history: %v", err)
			}
			holdsNoLease(t, knows)
			commit(t, fresh, &kms.Change{})
		}
	}
	target.Reopen(t)
	if got := load(t, target.Store); got.Head.Revision != old.Head.Revision && target.Second == nil {
		t.Errorf("the old store is at revision %d, want %d", got.Head.Revision, old.Head.Revision)
	}
}
