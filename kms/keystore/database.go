package keystore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/keyholt/keyholt/hsm"
)

// Config says where a store is.
type Config struct {
	// Driver is the kind of database: "sqlite".
	Driver string
	// DSN is, for sqlite, the path of the database file. The file is made if there is
	// none; its directory must exist.
	DSN string
}

// Database is an open store of which only what is not sealed can be read: its identity
// and which token object its seal key is. Its methods may be called concurrently.
type Database struct {
	dialect *dialect
	dsn     string
	db      *sql.DB
	lock    *fileLock
	id      string
	schema  int64

	mu          sync.Mutex // guards the rest
	sealKeyUID  hsm.UID
	sealKeyMade bool
	closed      bool
}

// Open opens the store, makes it if there is none yet, and brings its schema up to
// date. It locks the store against other processes until Close. Errors:
// kms.ErrStoreLocked if another has it open; kms.ErrTampered if its identity was
// removed; else kms.ErrStoreUnavailable, with the cause ErrNewerSchema or
// ErrForeignDatabase where that is the reason.
func Open(ctx context.Context, c Config) (*Database, error) {
	dialect, ok := dialectOf(c.Driver)
	if !ok {
		return nil, unavailable(nil, "there is no store driver %q; the drivers are: sqlite", c.Driver)
	}
	if c.DSN == "" {
		return nil, unavailable(nil, "the store's dsn is empty: for sqlite it is the path of the database file")
	}
	db, lock, err := dialect.open(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	d := &Database{dialect: dialect, dsn: c.DSN, db: db, lock: lock}
	if d.schema, err = migrate(ctx, dialect, db); err == nil {
		err = d.identify(ctx)
	}
	if err != nil {
		_ = d.Close() // err says what is wrong
		return nil, err
	}
	return d, nil
}

// ID returns the store's identity: 16 random hexadecimal digits, chosen when it was made.
func (d *Database) ID() string { return d.id }

// SealKey returns the UID of the token object that the seal key is derived from, chosen
// when the store was made. made tells that ConfirmSealKey has been called: the object
// exists, and one that cannot be found is an error and not to be made again.
func (d *Database) SealKey() (uid hsm.UID, made bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sealKeyUID, d.sealKeyMade
}

// ConfirmSealKey records durably that the token object of the seal key exists. Call it
// after the object was made and before Store. To repeat it does nothing.
func (d *Database) ConfirmSealKey(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sealKeyMade {
		return nil
	}
	if _, err := d.db.ExecContext(ctx, "UPDATE meta SET seal_key_made = 1 WHERE id = 1"); err != nil {
		return unavailable(err, "cannot record in the store that its seal key was made: %v", err)
	}
	d.sealKeyMade = true
	return nil
}

// Store returns the store, whose rows the sealer seals. It fails with
// ErrSealKeyUnconfirmed before ConfirmSealKey: rows sealed under a key that a crash
// could make the store forget would be lost. The Store ends with the Database's Close.
func (d *Database) Store(sealer Sealer) (*Store, error) {
	if sealer == nil {
		return nil, errors.New("keystore: a store needs a sealer")
	}
	if _, made := d.SealKey(); !made {
		return nil, ErrSealKeyUnconfirmed
	}
	return &Store{database: d, sealer: sealer}, nil
}

// Close closes the database and unlocks the store. To repeat it does nothing.
func (d *Database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return errors.Join(d.db.Close(), d.lock.release())
}

// identify reads who the store is; a new store gets its identity here.
func (d *Database) identify(ctx context.Context) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return unavailable(err, "cannot write the store: %v", err)
	}
	defer func() { _ = tx.Rollback() }()

	id, uid, made, err := readMeta(ctx, tx)
	if errors.Is(err, sql.ErrNoRows) {
		id, uid, err = makeMeta(ctx, tx)
	}
	if err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return unavailable(err, "cannot write the store: %v", err)
	}
	d.id, d.sealKeyUID, d.sealKeyMade = id, uid, made
	return nil
}

// readMeta reads the identity. A store that has none yet is sql.ErrNoRows.
func readMeta(ctx context.Context, tx *sql.Tx) (id string, uid hsm.UID, made bool, err error) {
	var uidText string
	var madeValue int64
	err = tx.QueryRowContext(ctx, "SELECT store_id, seal_key_uid, seal_key_made FROM meta WHERE id = 1").
		Scan(&id, &uidText, &madeValue)
	if errors.Is(err, sql.ErrNoRows) {
		return "", uid, false, err
	}
	if err != nil {
		return "", uid, false, unavailable(err, "cannot read the identity of the store: %v", err)
	}
	uid, err = parseUID(uidText)
	if err != nil {
		return "", uid, false, tampered("table meta", "the UID of the seal key: %v", err)
	}
	return id, uid, madeValue != 0, nil
}

// makeMeta gives a new store its identity and revision 0. A store that holds anything
// already had an identity, which somebody has removed.
func makeMeta(ctx context.Context, tx *sql.Tx) (id string, uid hsm.UID, err error) {
	counts, err := countRows(ctx, tx)
	if err != nil {
		return "", uid, err
	}
	for table, rows := range counts {
		if rows > 0 {
			return "", uid, tampered("table meta", "the store holds %s but its identity is missing", table)
		}
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	_, _ = rand.Read(uid[:])
	id = hex.EncodeToString(random[:])
	if _, err := tx.ExecContext(ctx, "INSERT INTO meta (id, store_id, seal_key_uid, seal_key_made) VALUES (1, $1, $2, 0)",
		id, uid.String()); err != nil {
		return "", uid, unavailable(err, "cannot write the store: %v", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO revision (id, value) VALUES (1, 0)"); err != nil {
		return "", uid, unavailable(err, "cannot write the store: %v", err)
	}
	return id, uid, nil
}

// querier is *sql.DB or *sql.Tx.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// countRows returns how many rows each table has that a new store has none in.
func countRows(ctx context.Context, q querier) (map[string]int64, error) {
	counts := make(map[string]int64)
	for _, name := range []string{"revision", "namespaces", "keys", "versions", "reservations"} {
		var rows int64
		if err := q.QueryRowContext(ctx, "SELECT count(*) FROM "+name).Scan(&rows); err != nil {
			return nil, unavailable(err, "cannot read the store: %v", err)
		}
		counts[name] = rows
	}
	return counts, nil
}
