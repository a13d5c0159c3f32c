package keystore

import (
	"context"
	"database/sql"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Reseal reads and verifies everything, seals it anew under the seal key that is the
// token object uid, and writes it as one change. Others wait for the whole of it.
func (s *Store) Reseal(ctx context.Context, uid hsm.UID) (kms.Head, error) {
	next, err := openRing(ctx, s.open, s.database.id, uid.String())
	if err != nil {
		return kms.Head{}, err
	}
	var sealed *set
	err = s.transact(ctx, s.database.dialect.writeOptions, cannotWrite, func(tx *sql.Tx) error {
		known := s.index.position()
		v, err := s.catchUp(ctx, tx, known.Revision, known, s.database.dialect.forUpdate)
		if err != nil {
			return err
		}
		if sealed, err = s.reseal(ctx, tx, v, next); err != nil {
			return err
		}
		return s.notify(ctx, tx)
	})
	if err != nil {
		return kms.Head{}, err
	}
	s.current.Store(next)
	s.index.replace(sealed)
	s.database.setSealKey(next.uid)
	return sealed.head, nil
}

// reseal seals all rows and the head anew.
func (s *Store) reseal(ctx context.Context, tx *sql.Tx, v *view, next *ring) (*set, error) {
	rows := make([][]*record, len(sealedTables))
	_, err := readAll(ctx, tx, v.ring, s.database.id, v.stored, func(t *table, r *record) error {
		rows[t.ordinal] = append(rows[t.ordinal], r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	sealed := newSet(next.keyID)
	verifier := newVerifier(next)
	for _, t := range sealedTables {
		if err := resealTable(ctx, tx, verifier, t, rows[t.ordinal], v.head.Revision+1, sealed); err != nil {
			return nil, err
		}
	}
	sealed.head, err = writeHead(ctx, tx, next, s.database.id, v.head.Revision, v.head.Revision+1, &sealed.counts, &sealed.sum)
	return sealed, err
}

func resealTable(ctx context.Context, tx *sql.Tx, v *verifier, t *table, rows []*record, revision kms.Revision, sealed *set) error {
	if len(rows) == 0 {
		return nil
	}
	update, err := tx.PrepareContext(ctx, t.update)
	if err != nil {
		return err
	}
	defer func() { _ = update.Close() }()
	for _, r := range rows {
		replaced := r.revision
		r.revision = revision
		if err := seal(v.ring.sealer, t, r); err != nil {
			return err
		}
		e, err := v.entry(t, r)
		if err != nil {
			return err
		}
		result, err := update.ExecContext(ctx, append(r.values(), int64(replaced))...)
		if err != nil {
			return err
		}
		if affected, err := result.RowsAffected(); err != nil || affected != 1 {
			return unavailable(err, "the row of %s was changed although the store is locked", t.resource(r.fixed))
		}
		sealed.insert(t, idOf(t, r.fixed), e)
	}
	return nil
}
