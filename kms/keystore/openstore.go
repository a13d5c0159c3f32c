package keystore

import (
	"context"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// OpenStore opens the store with the seal key in the token, which is made with a new
// store. It is Open, LockSealKey, kms.OpenSealer, ConfirmSealKey and Store in one; the
// Store ends with its Close. The token must not be closed before.
func OpenStore(ctx context.Context, c Config, token hsm.Token) (*Store, error) {
	database, err := Open(ctx, c)
	if err != nil {
		return nil, err
	}
	store, err := database.openStore(ctx, token)
	if err != nil {
		_ = database.Close() // err says what is wrong
		return nil, err
	}
	return store, nil
}

func (d *Database) openStore(ctx context.Context, token hsm.Token) (*Store, error) {
	unlock, err := d.LockSealKey(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	uid, made := d.SealKey()
	if _, err := kms.OpenSealer(ctx, token, d.ID(), uid, !made); err != nil {
		return nil, err
	}
	if err := d.ConfirmSealKey(ctx); err != nil {
		return nil, err
	}
	return d.Store(func(ctx context.Context, storeID string, uid hsm.UID) (Sealer, error) {
		return kms.OpenSealer(ctx, token, storeID, uid, false)
	})
}

// Close closes the store's Database. To repeat it does nothing.
func (s *Store) Close() error { return s.database.Close() }
