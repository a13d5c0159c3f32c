package keystore

import (
	"fmt"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// removal says which row was removed. Its own row is sealed and belongs to the set, so
// that nobody can keep from a replica that something is gone. It stays for good: there
// is one for each name that was ever removed.
type removal struct {
	table  *table
	naming []any // the values of the naming columns of the row
	addTo  func(*kms.Delta)
}

// removalName returns the name that a removal gives a row: it holds all that names it.
func removalName(t *table, fixed []any) (string, error) {
	switch t {
	case keyTable, versionTable, importJobTable:
		return t.resource(fixed), nil
	case reservationTable, orphanTable:
		return columnText(fixed[0]), nil
	default:
		return "", fmt.Errorf("keystore: rows of %s are never removed", t.name)
	}
}

// readRemoval is the inverse, of a record whose seal is good.
func readRemoval(r *record) (*removal, error) {
	kind, name := columnText(r.fixed[0]), columnText(r.fixed[1])
	t, _ := tableOf(kind)
	switch t {
	case keyTable:
		key, err := kms.ParseKeyName(name)
		return &removal{
			table:  t,
			naming: []any{key.Namespace().ID(), key.ID()},
			addTo:  func(d *kms.Delta) { d.RemovedKeys = append(d.RemovedKeys, key) },
		}, err
	case versionTable:
		version, err := kms.ParseVersionName(name)
		key := version.Key()
		return &removal{
			table:  t,
			naming: []any{key.Namespace().ID(), key.ID(), int64(version.Number())},
			addTo:  func(d *kms.Delta) { d.RemovedVersions = append(d.RemovedVersions, version) },
		}, err
	case reservationTable:
		_, err := parseUID(name)
		return &removal{table: t, naming: []any{name}, addTo: func(*kms.Delta) {}}, err
	case orphanTable:
		var uid hsm.UID
		uid, err := parseUID(name)
		return &removal{
			table:  t,
			naming: []any{name},
			addTo:  func(d *kms.Delta) { d.RemovedOrphans = append(d.RemovedOrphans, uid) },
		}, err
	case importJobTable:
		job, err := kms.ParseImportJobName(name)
		return &removal{
			table:  t,
			naming: []any{job.Namespace().ID(), job.ID()},
			addTo:  func(d *kms.Delta) { d.RemovedImportJobs = append(d.RemovedImportJobs, job) },
		}, err
	default:
		return nil, fmt.Errorf("no rows of the type %q are ever removed", clip(kind))
	}
}
