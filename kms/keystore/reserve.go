package keystore

import (
	"context"
	"database/sql"
	"errors"
	"math"

	"github.com/keyholt/keyholt/hsm"
)

// ReserveEncryptions durably takes n encryptions of a STRICT version off its limit, as
// kms.Store says. The counter has stood in the store since the version was committed:
// one that is missing, whose seal is not good, or that was put back to an older state,
// is kms.ErrTampered.
func (s *Store) ReserveEncryptions(ctx context.Context, uid hsm.UID, n, limit uint64) (taken, before uint64, err error) {
	_, err = s.write(ctx, s.index.position().Revision, func(ctx context.Context, _ *view, w *writer) (bool, error) {
		r, err := w.readCounter(ctx, uid)
		if err != nil {
			return false, err
		}
		stored, err := readReservation(r)
		if err != nil {
			return false, tampered(reservationTable.resource(r.fixed), "%v", err)
		}
		before = uint64(stored)
		taken = within(before, n, limit)
		if taken == 0 {
			return false, nil
		}
		next := reservationRecord(uid, int64(before+taken))
		next.revision = r.revision
		return true, w.put(ctx, reservationTable, next)
	})
	if err != nil {
		return 0, 0, err
	}
	return taken, before, nil
}

// readCounter reads the row of a version's counter and verifies it.
func (w *writer) readCounter(ctx context.Context, uid hsm.UID) (*record, error) {
	r, err := reservationTable.scan(w.tx.QueryRowContext(ctx, reservationTable.read+" WHERE uid = $1", uid.String()))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, tampered(reservationTable.resource([]any{uid}), "its row is missing")
	}
	if err != nil {
		return nil, err
	}
	e, err := w.verifier.verify(reservationTable, r)
	if err != nil {
		return nil, err
	}
	if known, _ := w.pending.lookup(idOf(reservationTable, r.fixed)); known != e {
		return nil, tampered(reservationTable.resource(r.fixed), "the row was put back to an older state")
	}
	return r, nil
}

// within returns how many of n can be taken when before have been, such that no more
// than limit are in the end. The database's integers have 63 bits.
func within(before, n, limit uint64) uint64 {
	limit = min(limit, math.MaxInt64)
	if before >= limit {
		return 0
	}
	return min(n, limit-before)
}
