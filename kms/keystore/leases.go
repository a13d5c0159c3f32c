package keystore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// InsertLease commits the lease row of a replica that joins.
func (s *Store) InsertLease(ctx context.Context, l *kms.Lease) (revision kms.Revision, err error) {
	return s.lease(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO leases "+
			"(lease_id, counter, applied, duration_ns, replica, release, start_time) VALUES ($1, $2, $3, $4, $5, $6, $7)",
			l.ID, int64(l.Counter), int64(l.Applied), int64(l.Duration), l.Replica, l.Release, l.StartTime.UnixMicro())
		if err != nil && s.database.dialect.isConflict(err) {
			return conflict("lease " + l.ID)
		}
		return err
	})
}

// RenewLease sets the counter of a row and what its replica has applied.
func (s *Store) RenewLease(ctx context.Context, l *kms.Lease) (revision kms.Revision, err error) {
	return s.lease(ctx, func(tx *sql.Tx) error {
		var applied int64
		err := tx.QueryRowContext(ctx, "SELECT applied FROM leases WHERE lease_id = $1"+s.database.dialect.forUpdate, l.ID).
			Scan(&applied)
		if errors.Is(err, sql.ErrNoRows) {
			return &kms.Error{
				Sentinel: kms.ErrLeaseGone,
				Message:  fmt.Sprintf("there is no lease %s any more", l.ID),
				Metadata: map[string]string{"lease": l.ID},
			}
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE leases SET counter = $1, applied = $2 WHERE lease_id = $3",
			int64(l.Counter), int64(l.Applied), l.ID)
		if err != nil || int64(l.Applied) <= applied {
			return err
		}
		return s.notify(ctx, tx)
	})
}

// lease changes a lease row and reads the store's revision, in one transaction. What the
// row says of revisions is only true in a store that comes from the state that this
// process has seen, so that is looked at in the same transaction.
func (s *Store) lease(ctx context.Context, change func(*sql.Tx) error) (revision kms.Revision, err error) {
	for {
		known := s.index.position() // before the transaction, which will see at least that
		err = s.transact(ctx, s.database.dialect.leaseOptions, cannotWrite, func(tx *sql.Tx) error {
			if err := change(tx); err != nil {
				return err
			}
			if known.Revision == 0 {
				revision, err = readRevision(ctx, tx)
				return err
			}
			v, err := s.catchUp(ctx, tx, known.Revision, known, "")
			if err == nil {
				revision = v.head.Revision
			}
			return err
		})
		if !errors.Is(err, errOvertaken) {
			return revision, err
		}
	}
}

// readRevision reads the store's revision without the rest of its head.
func readRevision(ctx context.Context, q querier) (kms.Revision, error) {
	var revision int64
	err := q.QueryRowContext(ctx, "SELECT revision FROM head WHERE id = 1").Scan(&revision)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, tampered("table head", "its row is missing")
	}
	return kms.Revision(revision), err
}

// Leases returns all lease rows and the store's revision, read in one transaction, which
// with confirm writes too.
func (s *Store) Leases(ctx context.Context, confirm bool) (leases []*kms.Lease, revision kms.Revision, err error) {
	options, message := s.database.dialect.readOptions, cannotRead
	if confirm {
		options, message = s.database.dialect.writeOptions, cannotWrite
	}
	err = s.transact(ctx, options, message, func(tx *sql.Tx) error {
		if confirm {
			if _, err := tx.ExecContext(ctx, s.database.dialect.confirm); err != nil {
				return err
			}
		}
		// The leases first: a lease that joins later has then seen at least this revision.
		if leases, err = readLeases(ctx, tx); err != nil {
			return err
		}
		revision, err = readRevision(ctx, tx)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return leases, revision, nil
}

func readLeases(ctx context.Context, tx *sql.Tx) (leases []*kms.Lease, err error) {
	rows, err := tx.QueryContext(ctx,
		"SELECT lease_id, counter, applied, duration_ns, replica, release, start_time FROM leases ORDER BY lease_id")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var l kms.Lease
		var counter, applied, duration, start int64
		if err := rows.Scan(&l.ID, &counter, &applied, &duration, &l.Replica, &l.Release, &start); err != nil {
			return nil, err
		}
		l.Counter, l.Applied, l.Duration = uint64(counter), kms.Revision(applied), time.Duration(duration)
		l.StartTime = time.UnixMicro(start).UTC()
		leases = append(leases, &l)
	}
	return leases, rows.Err()
}

// RemoveLease removes the row if it has that counter still, or whatever its counter is if
// that is 0.
func (s *Store) RemoveLease(ctx context.Context, id string, counter uint64) error {
	return s.transact(ctx, s.database.dialect.writeOptions, cannotWrite, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "DELETE FROM leases WHERE lease_id = $1 AND CAST($2 AS BIGINT) IN (counter, 0)", id, int64(counter))
		if err != nil {
			return err
		}
		if affected, err := result.RowsAffected(); err != nil || affected == 0 {
			return err
		}
		return s.notify(ctx, tx)
	})
}

// Lock waits for a named lock, as kms.Coordination says.
func (s *Store) Lock(ctx context.Context, name string) (unlock func(), err error) {
	return s.database.connection.peers.Lock(ctx, name)
}

// TryLock takes a named lock if it is free.
func (s *Store) TryLock(ctx context.Context, name string) (unlock func(), ok bool, err error) {
	return s.database.connection.peers.TryLock(ctx, name)
}

// Clock reads the clock of the database's server; the zero time: it is this machine's.
func (s *Store) Clock(ctx context.Context) (time.Time, error) {
	statement := s.database.dialect.clock
	if statement == "" {
		return time.Time{}, nil
	}
	var micros int64
	if err := s.database.connection.db.QueryRowContext(ctx, statement).Scan(&micros); err != nil {
		return time.Time{}, unavailable(err, cannotRead)
	}
	return time.UnixMicro(micros).UTC(), nil
}

// Listen calls wake when other processes may have changed something, until ctx ends.
func (s *Store) Listen(ctx context.Context, wake func()) {
	s.database.connection.peers.Listen(ctx, wake)
}
