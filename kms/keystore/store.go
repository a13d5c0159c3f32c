package keystore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/keyholt/keyholt/kms"
)

// Store is the kms.Store on a Database. Its methods may be called concurrently; on
// SQLite they take turns.
type Store struct {
	database *Database
	sealer   Sealer
}

var _ kms.Store = (*Store)(nil)

// ID returns the store's random identity, 16 hexadecimal digits.
func (s *Store) ID() string { return s.database.id }

// transact runs f in one transaction and commits it. An error of f rolls back. An error
// that is no kms.Error becomes kms.ErrStoreUnavailable with the message.
func (s *Store) transact(ctx context.Context, options *sql.TxOptions, message string, f func(*sql.Tx) error) error {
	err := func() error {
		tx, err := s.database.db.BeginTx(ctx, options)
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			_ = tx.Rollback() // what matters is why; a connection that cannot roll back is dropped
			return err
		}
		return tx.Commit()
	}()
	var domain *kms.Error
	if err == nil || errors.As(err, &domain) {
		return err
	}
	return unavailable(err, "%s", message)
}

// readRevision reads the store's revision. A store always has one.
func readRevision(ctx context.Context, q querier) (kms.Revision, error) {
	var value int64
	err := q.QueryRowContext(ctx, "SELECT value FROM revision WHERE id = 1").Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, tampered("table revision", "its row is missing")
	}
	return kms.Revision(value), err
}
