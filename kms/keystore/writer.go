package keystore

import (
	"context"
	"database/sql"

	"github.com/keyholt/keyholt/kms"
)

// writer puts and removes rows in a transaction that has the head locked, and then
// writes the head of the set that they leave. It is for one goroutine.
type writer struct {
	tx       *sql.Tx
	dialect  *dialect
	storeID  string
	ring     *ring
	verifier *verifier
	pending  *pending
	before   kms.Head
	revision kms.Revision // of the rows put
}

// newWriter starts a change of what the transaction has caught up with.
func (s *Store) newWriter(tx *sql.Tx, v *view) *writer {
	return &writer{
		tx:       tx,
		dialect:  s.database.dialect,
		storeID:  s.database.id,
		ring:     v.ring,
		verifier: newVerifier(v.ring),
		pending:  s.index.begin(),
		before:   v.head,
		revision: v.head.Revision + 1,
	}
}

// put inserts the record if its revision is 0, and else replaces the row that has that
// revision. The row is then of the new revision.
func (w *writer) put(ctx context.Context, t *table, r *record) error {
	replaced := r.revision
	r.revision = w.revision
	if err := seal(w.ring.sealer, t, r); err != nil {
		return err
	}
	e, err := w.verifier.entry(t, r)
	if err != nil {
		return err
	}
	if replaced == 0 {
		err = w.execute(ctx, t, r.fixed, t.insert, r.values())
	} else {
		err = w.execute(ctx, t, r.fixed, t.update, append(r.values(), int64(replaced)))
	}
	if err != nil {
		return err
	}
	id := idOf(t, r.fixed)
	if err := w.expect(t, r.fixed, id, replaced); err != nil {
		return err
	}
	w.pending.put(t, id, e)
	return nil
}

// remove removes the row that has the revision, and records that.
func (w *writer) remove(ctx context.Context, t *table, fixed []any, revision kms.Revision) error {
	err := w.execute(ctx, t, fixed, t.remove, append(fixed[:len(fixed):len(fixed)], int64(revision)))
	if err != nil {
		return err
	}
	id := idOf(t, fixed)
	if err := w.expect(t, fixed, id, revision); err != nil {
		return err
	}
	w.pending.remove(t, id)

	name, err := removalName(t, fixed)
	if err != nil {
		return err
	}
	r := &record{fixed: []any{t.rowType, name}}
	known, _ := w.pending.lookup(idOf(removalTable, r.fixed))
	if known.revision == w.revision { // put and removed in one change: at most one entry per row is allowed
		return conflict(t.resource(fixed))
	}
	r.revision = known.revision
	return w.put(ctx, removalTable, r)
}

// expect checks that the row which the database has found, or has not, is the one
// that is known.
func (w *writer) expect(t *table, fixed []any, id rowID, revision kms.Revision) error {
	known, ok := w.pending.lookup(id)
	switch {
	case known.revision == revision:
		return nil
	case !ok:
		return tampered(t.resource(fixed), "a row that is not in the set was put there")
	case revision == 0:
		return tampered(t.resource(fixed), "the row was removed")
	default:
		return tampered(t.resource(fixed), "the row was put back to an older state")
	}
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

// finish writes the head of the set as it is now.
func (w *writer) finish(ctx context.Context) (kms.Head, error) {
	return writeHead(ctx, w.tx, w.ring, w.storeID, w.before.Revision, w.revision, &w.pending.counts, &w.pending.sum)
}

// writeHead puts the head of a set in the place of the one of the revision before.
func writeHead(ctx context.Context, tx *sql.Tx, ring *ring, storeID string, before, revision kms.Revision,
	rows *counts, sum *digest,
) (kms.Head, error) {
	head := kms.Head{Revision: revision, Seal: ring.headSeal(storeID, revision, rows.String(), sum)}
	result, err := tx.ExecContext(ctx,
		"UPDATE head SET revision = $1, counts = $2, seal = $3, seal_key_id = $4 WHERE id = 1 AND revision = $5",
		int64(revision), rows.String(), head.Seal[:], ring.keyID, int64(before))
	if err != nil {
		return kms.Head{}, err
	}
	if affected, err := result.RowsAffected(); err != nil || affected != 1 {
		return kms.Head{}, unavailable(err, "the head of the store was changed although it is locked")
	}
	return head, nil
}
