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
// one that is missing, or whose seal is not good, is kms.ErrTampered. The store's
// revision stays as it is.
func (s *Store) ReserveEncryptions(ctx context.Context, uid hsm.UID, n, limit uint64) (taken, before uint64, err error) {
	err = s.transact(ctx, nil, "the metadata store cannot be written", func(tx *sql.Tx) error {
		r, err := s.readCounter(ctx, tx, uid)
		if err != nil {
			return err
		}
		stored, err := readReservation(r)
		if err != nil {
			return tampered(reservationTable.resource(r.fixed), "%v", err)
		}
		before = uint64(stored)
		taken = within(before, n, limit)
		if taken == 0 {
			return nil
		}
		next := reservationRecord(uid, int64(before+taken))
		next.revision = r.revision
		w := writer{tx: tx, dialect: s.database.dialect, sealer: s.sealer}
		return w.put(ctx, reservationTable, next, r.revision+1)
	})
	if err != nil {
		return 0, 0, err
	}
	return taken, before, nil
}

// readCounter reads the row of a version's counter and verifies its seal.
func (s *Store) readCounter(ctx context.Context, tx *sql.Tx, uid hsm.UID) (*record, error) {
	r, err := reservationTable.scan(tx.QueryRowContext(ctx, reservationTable.read+" WHERE uid = $1", uid.String()))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, tampered(reservationTable.resource([]any{uid}), "its row is missing")
	}
	if err != nil {
		return nil, err
	}
	return r, newVerifier(s.sealer).verify(reservationTable, r)
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
