package keystore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/keyholt/keyholt/kms"
)

// Commit makes the change durable in one transaction at the next revision of the store,
// or does nothing. Beyond the contract of kms.Store:
//
//   - The name and the UID of a version, and the name, purpose, algorithm and profile of
//     a key, never change: a row that has others than the stored one is kms.ErrConflict,
//     as is a row that refers to one that does not exist.
//   - Times are kept to the microsecond, in UTC.
//   - A text that is not valid UTF-8 or holds a zero byte is kms.ErrInvalidRequest, and
//     nothing is done: not every database can keep it.
//   - A version of a STRICT key gets its encryption counter, at 0, in the same
//     transaction, so that a counter that is missing later was removed by somebody.
func (s *Store) Commit(ctx context.Context, change *kms.Change) (kms.Revision, error) {
	var revision kms.Revision
	err := s.transact(ctx, nil, "the metadata store cannot be written", func(tx *sql.Tx) error {
		var err error
		if revision, err = nextRevision(ctx, tx); err != nil {
			return err
		}
		w := writer{tx: tx, dialect: s.database.dialect, sealer: s.sealer}
		return w.apply(ctx, change, revision)
	})
	if err != nil {
		return 0, err
	}
	return revision, nil
}

// nextRevision counts the store's revision up.
func nextRevision(ctx context.Context, tx *sql.Tx) (kms.Revision, error) {
	var value int64
	err := tx.QueryRowContext(ctx, "UPDATE revision SET value = value + 1 WHERE id = 1 RETURNING value").Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, tampered("table revision", "its row is missing")
	}
	return kms.Revision(value), err
}

// writer puts and removes rows in a transaction.
type writer struct {
	tx      *sql.Tx
	dialect *dialect
	sealer  Sealer
}

// apply makes the whole change. Rows come after those that they refer to, and are
// removed before them.
func (w *writer) apply(ctx context.Context, change *kms.Change, revision kms.Revision) error {
	for _, n := range change.Namespaces {
		r, err := namespaceRecord(n)
		if err != nil {
			return err
		}
		if err := w.put(ctx, namespaceTable, r, revision); err != nil {
			return err
		}
	}
	for _, k := range change.Keys {
		r, err := keyRecord(k)
		if err != nil {
			return err
		}
		if err := w.put(ctx, keyTable, r, revision); err != nil {
			return err
		}
	}
	for _, v := range change.Versions {
		if err := w.putVersion(ctx, v, revision); err != nil {
			return err
		}
	}
	for _, v := range change.RemoveVersions {
		if err := w.removeVersion(ctx, v); err != nil {
			return err
		}
	}
	for _, k := range change.RemoveKeys {
		if err := w.remove(ctx, keyTable, keyFixed(k), k.Revision); err != nil {
			return err
		}
	}
	return nil
}

// put inserts the record if its revision is 0, and else replaces the row that has that
// revision. The row is then of the new revision.
func (w *writer) put(ctx context.Context, t *table, r *record, revision kms.Revision) error {
	replaced := r.revision
	r.revision = revision
	if err := seal(w.sealer, t, r); err != nil {
		return err
	}
	values := r.values()
	if replaced == 0 {
		return w.execute(ctx, t, r.fixed, t.insert, values)
	}
	return w.execute(ctx, t, r.fixed, t.update, append(values, int64(replaced)))
}

func (w *writer) remove(ctx context.Context, t *table, fixed []any, revision kms.Revision) error {
	return w.execute(ctx, t, fixed, t.remove, append(fixed[:len(fixed):len(fixed)], int64(revision)))
}

// execute runs a statement that must concern exactly one row.
func (w *writer) execute(ctx context.Context, t *table, fixed []any, statement string, values []any) error {
	result, err := w.tx.ExecContext(ctx, statement, values...)
	if err != nil {
		if w.dialect.isConflict(err) {
			return conflict(t.resource(fixed))
		}
		return err
	}
	affected, err := result.RowsAffected()
	if err != nil {
		return err
	}
	if affected != 1 {
		return conflict(t.resource(fixed))
	}
	return nil
}

func (w *writer) putVersion(ctx context.Context, v *kms.Version, revision kms.Revision) error {
	r, err := versionRecord(v)
	if err != nil {
		return err
	}
	if err := w.put(ctx, versionTable, r, revision); err != nil || v.Revision != 0 {
		return err
	}
	var profile string
	key := v.Name.Key()
	err = w.tx.QueryRowContext(ctx, "SELECT profile FROM keys WHERE namespace_id = $1 AND key_id = $2",
		key.Namespace().ID(), key.ID()).Scan(&profile)
	if err != nil || profile != kms.ProfileStrict.String() {
		return err
	}
	return w.put(ctx, reservationTable, reservationRecord(v.UID, 0), 1)
}

func (w *writer) removeVersion(ctx context.Context, v *kms.Version) error {
	// Versions of DERIVED keys have no counter.
	if _, err := w.tx.ExecContext(ctx, "DELETE FROM reservations WHERE uid = $1", v.UID.String()); err != nil {
		return err
	}
	return w.remove(ctx, versionTable, versionFixed(v), v.Revision)
}
