package keystore

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// OpenSealer opens the seal key that is the token object uid, for the store with the id.
// The Sealer's KeyID must be the text of uid. Errors are domain errors.
type OpenSealer func(ctx context.Context, storeID string, uid hsm.UID) (Sealer, error)

// Store is the kms.Store on a Database. Its methods may be called concurrently; on
// SQLite they take turns.
type Store struct {
	database *Database
	open     OpenSealer
	current  atomic.Pointer[ring] // of the seal key that was last in use
	index    index
}

var _ kms.Store = (*Store)(nil)

// The messages of transactions that fail.
const (
	cannotRead  = "the metadata store cannot be read"
	cannotWrite = "the metadata store cannot be written"
)

// SealKey returns the UID of the token object whose seals are good now.
func (s *Store) SealKey() hsm.UID {
	uid, _ := s.database.SealKey()
	return uid
}

// ID returns the store's random identity, 16 hexadecimal digits.
func (s *Store) ID() string { return s.database.id }

// Exclusive tells that no other process can have the store open.
func (s *Store) Exclusive() bool { return s.database.dialect.exclusive }

// transact runs f in one transaction and commits it. An error of f rolls back. An error
// that is no kms.Error becomes kms.ErrStoreUnavailable with the message.
func (s *Store) transact(ctx context.Context, options *sql.TxOptions, message string, f func(*sql.Tx) error) error {
	err := func() error {
		tx, err := s.database.connection.db.BeginTx(ctx, options)
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
	if err == nil || errors.Is(err, errStay) || errors.As(err, &domain) {
		return err
	}
	return unavailable(err, "%s", message)
}

// errStay ends a transaction that found nothing to change. It never leaves the package.
var errStay = errors.New("nothing to change")

// write runs f in a transaction that has locked the head and caught up with it, and
// wakes those who listen. changed is what f has left in the store; nil: f changes nothing.
// The head returned is the store's new one, or the one that it has.
func (s *Store) write(ctx context.Context, since kms.Revision,
	f func(ctx context.Context, v *view, w *writer) (changed bool, err error),
) (kms.Head, error) {
	var head kms.Head
	var w *writer
	leave, err := s.database.connection.enterChange(ctx)
	if err != nil {
		return kms.Head{}, err
	}
	defer leave()
	err = s.transact(ctx, s.database.dialect.writeOptions, cannotWrite, func(tx *sql.Tx) error {
		v, err := s.catchUp(ctx, tx, since, s.index.position(), s.database.dialect.forUpdate)
		if err != nil {
			return err
		}
		head = v.head
		w = s.newWriter(tx, v)
		changed, err := f(ctx, v, w)
		if err != nil {
			return err
		}
		if !changed {
			return errStay
		}
		if head, err = w.finish(ctx); err != nil {
			return err
		}
		return s.notify(ctx, tx)
	})
	if errors.Is(err, errStay) {
		return head, nil
	}
	if err != nil {
		return kms.Head{}, err
	}
	s.index.publish(w.pending, w.ring.keyID, head)
	return head, nil
}

// notify wakes the listeners of other processes when the transaction commits.
func (s *Store) notify(ctx context.Context, tx *sql.Tx) error {
	if s.database.dialect.notify == nil {
		return nil
	}
	return s.database.dialect.notify(ctx, tx)
}

// ring opens the seal key that the store names.
func (s *Store) ring(ctx context.Context, keyID string) (*ring, error) {
	if current := s.current.Load(); current != nil && current.keyID == keyID {
		return current, nil
	}
	r, err := openRing(ctx, s.open, s.database.id, keyID)
	if err != nil {
		return nil, err
	}
	s.current.Store(r)
	s.database.setSealKey(r.uid)
	return r, nil
}

// openRing opens a seal key by the text of its UID.
func openRing(ctx context.Context, open OpenSealer, storeID, keyID string) (*ring, error) {
	uid, err := parseUID(keyID)
	if err != nil {
		return nil, tampered("table head", "the UID of the seal key: %v", err)
	}
	sealer, err := open(ctx, storeID, uid)
	if err != nil {
		return nil, err
	}
	if sealer.KeyID() != keyID {
		return nil, errors.New("keystore: another seal key was opened than the one asked for")
	}
	return newRing(sealer, uid), nil
}
