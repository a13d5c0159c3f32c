package keystore

import (
	"fmt"
	"strings"

	"github.com/keyholt/keyholt/kms"
)

// table describes one table of sealed rows, and has the statements for it.
type table struct {
	name    string
	rowType string   // in seals
	fixed   []string // columns that never change; the first of them name the row
	naming  int      // how many of fixed name the row: its primary key
	ordinal int      // its place among sealedTables
	content []string // the others; later schemas append nullable ones

	// resource names a row for people, from the values of its fixed columns.
	resource func(fixed []any) string

	// Statements. Values come in the order fixed, content, revision, seal, seal_key_id.
	// update and remove take one more at the end, the revision that the row must have;
	// remove takes fixed and that one only. changed takes a revision, and reads the rows
	// of later ones.
	insert, update, remove, read, changed string
}

// record is one row: the values of its columns (string, int64, []byte or nil) in the
// order of the table.
type record struct {
	fixed     []any
	content   []any
	revision  kms.Revision
	seal      []byte
	sealKeyID string
}

// The tables of sealed rows. Their columns, and the order of these, are part of what is
// sealed.
var (
	originTable = newTable("origin", "origin", 1,
		[]string{"id"},
		[]string{"epoch", "changed_time", "principal", "reason"},
		func([]any) string { return "origin of the store" })

	namespaceTable = newTable("namespaces", "namespace", 1,
		[]string{"namespace_id"},
		[]string{"create_time", "created_by"},
		func(fixed []any) string { return fmt.Sprintf("namespaces/%v", fixed[0]) })

	keyTable = newTable("keys", "key", 2,
		[]string{"namespace_id", "key_id", "purpose", "algorithm", "profile"},
		[]string{"labels", "rotation_period_ns", "primary_version", "create_time", "created_by"},
		func(fixed []any) string { return fmt.Sprintf("namespaces/%v/keys/%v", fixed[0], fixed[1]) })

	versionTable = newTable("versions", "version", 3,
		[]string{"namespace_id", "key_id", "number", "uid"},
		[]string{"state", "create_time", "state_time", "state_principal", "state_reason", "destroy_time",
			"restore_to", "epoch", "first_use", "check_value", "attributes", "imported",
			"request_id", "request_digest"},
		func(fixed []any) string {
			return fmt.Sprintf("namespaces/%v/keys/%v/versions/%v", fixed[0], fixed[1], fixed[2])
		})

	reservationTable = newTable("reservations", "reservation", 1,
		[]string{"uid"},
		[]string{"taken"},
		func(fixed []any) string { return fmt.Sprintf("encryption counter of key version UID %v", fixed[0]) })

	orphanTable = newTable("orphans", "orphan", 1,
		[]string{"uid"},
		[]string{"label", "destroy_time", "principal"},
		func(fixed []any) string { return fmt.Sprintf("orphan with UID %v", fixed[0]) })

	importJobTable = newTable("import_jobs", "import_job", 2,
		[]string{"namespace_id", "job_id", "uid", "method"},
		[]string{"state", "create_time", "created_by", "expire_time", "public_key", "attributes", "request_id", "request_digest"},
		func(fixed []any) string { return fmt.Sprintf("namespaces/%v/importJobs/%v", fixed[0], fixed[1]) })

	removalTable = newTable("removals", "removal", 2,
		[]string{"kind", "name"},
		nil,
		func(fixed []any) string { return fmt.Sprintf("removal of the %v %v", fixed[0], fixed[1]) })

	// sealedTables are all of them, each after those that its rows refer to. The head
	// counts their rows in this order.
	sealedTables = numbered(originTable, namespaceTable, keyTable, versionTable, reservationTable, orphanTable,
		importJobTable, removalTable)
)

func newTable(name, rowType string, naming int, fixed, content []string, resource func([]any) string) *table {
	t := &table{name: name, rowType: rowType, fixed: fixed, naming: naming, content: content, resource: resource}
	changing := append(append([]string{}, content...), "revision", "seal", "seal_key_id")
	all := t.columns()

	t.insert = fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", name,
		strings.Join(all, ", "), strings.Join(equations(all, 1, false), ", "))
	t.update = fmt.Sprintf("UPDATE %s SET %s WHERE %s AND revision = $%d", name,
		strings.Join(equations(changing, len(fixed)+1, true), ", "),
		strings.Join(equations(fixed, 1, true), " AND "), len(all)+1)
	t.remove = fmt.Sprintf("DELETE FROM %s WHERE %s AND revision = $%d", name,
		strings.Join(equations(fixed, 1, true), " AND "), len(fixed)+1)
	t.read = fmt.Sprintf("SELECT %s FROM %s", strings.Join(all, ", "), name)
	t.changed = t.read + " WHERE revision > $1"
	return t
}

// numbered gives each table its ordinal.
func numbered(tables ...*table) []*table {
	for i, t := range tables {
		t.ordinal = i
	}
	return tables
}

// tableOf finds a sealed table by its row type.
func tableOf(rowType string) (*table, bool) {
	for _, t := range sealedTables {
		if t.rowType == rowType {
			return t, true
		}
	}
	return nil, false
}

// columns returns the columns of the table in the order of its statements.
func (t *table) columns() []string {
	all := append(append([]string{}, t.fixed...), t.content...)
	return append(all, "revision", "seal", "seal_key_id")
}

// equations returns a placeholder for each column, numbered from first, as "$1" or "column = $1".
func equations(columns []string, first int, named bool) []string {
	terms := make([]string, len(columns))
	for i, column := range columns {
		terms[i] = fmt.Sprintf("$%d", first+i)
		if named {
			terms[i] = column + " = " + terms[i]
		}
	}
	return terms
}

// values returns the record's columns for the insert statement of its table.
func (r *record) values() []any {
	values := make([]any, 0, len(r.fixed)+len(r.content)+4)
	values = append(values, r.fixed...)
	values = append(values, r.content...)
	return append(values, int64(r.revision), r.seal, r.sealKeyID)
}

// scanner is *sql.Rows or *sql.Row.
type scanner interface{ Scan(dest ...any) error }

// scan reads one row of the table.
func (t *table) scan(row scanner) (*record, error) {
	columns := make([]any, len(t.fixed)+len(t.content)+3)
	targets := make([]any, len(columns))
	for i := range columns {
		targets[i] = &columns[i]
	}
	if err := row.Scan(targets...); err != nil {
		return nil, err
	}
	r := &record{
		fixed:   columns[:len(t.fixed):len(t.fixed)],
		content: columns[len(t.fixed) : len(columns)-3 : len(columns)-3],
	}
	tail := columns[len(columns)-3:]
	revision, ok1 := tail[0].(int64)
	seal, ok2 := tail[1].([]byte)
	keyID, ok3 := tail[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return nil, tampered(t.resource(r.fixed), "revision, seal or seal key id is not of its column's type")
	}
	r.revision, r.seal, r.sealKeyID = kms.Revision(revision), seal, keyID
	return r, nil
}
