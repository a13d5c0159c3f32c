package keystore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// Config says where a store is.
type Config struct {
	// Driver is the kind of database: "sqlite" or "postgres".
	Driver string
	// DSN is, for sqlite, the path of the database file. The file is made if there is
	// none; its directory must exist. For postgres it is a connection string of libpq,
	// with the hosts of all servers that may become the primary; the tables are in the
	// first schema of its search_path.
	DSN string
}

// Database is an open store of which only what is not sealed can be read: its identity
// and which token object its seal key is. Its methods may be called concurrently.
type Database struct {
	dialect    *dialect
	dsn        string
	connection *connection
	id         string
	schema     int64

	mu          sync.Mutex // guards the rest
	sealKeyUID  hsm.UID
	sealKeyMade bool
	closed      bool
}

// Open opens the store, and makes it if there is none yet. It locks a store that one
// process has for itself against others until Close. Errors: kms.ErrStoreLocked if
// another has it open; kms.ErrTampered if its identity was removed; else
// kms.ErrStoreUnavailable, with the cause ErrOlderSchema, ErrNewerSchema or
// ErrForeignDatabase where that is the reason.
func Open(ctx context.Context, c Config) (*Database, error) {
	d, err := connect(ctx, c)
	if err != nil {
		return nil, err
	}
	if d.schema, err = checkSchema(ctx, d.dialect, d.connection.db); err == nil {
		err = d.identify(ctx)
	}
	if err != nil {
		_ = d.Close() // err says what is wrong
		return nil, err
	}
	return d, nil
}

// connect connects to the database, whatever it holds.
func connect(ctx context.Context, c Config) (*Database, error) {
	dialect, ok := dialectOf(c.Driver)
	if !ok {
		return nil, unavailable(nil, "there is no store driver %q; the drivers are: %s", c.Driver, drivers)
	}
	if c.DSN == "" {
		return nil, unavailable(nil, "the store's dsn is empty: for sqlite it is the path of the database file")
	}
	connection, err := dialect.open(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	return &Database{dialect: dialect, dsn: c.DSN, connection: connection}, nil
}

// ID returns the store's identity: 16 random hexadecimal digits, chosen when it was made.
func (d *Database) ID() string { return d.id }

// SealKey returns the UID of the token object that the seal key is derived from, chosen
// when the store was made, and changed since by Store.Reseal; here, or before Open.
// made tells that ConfirmSealKey has been called: the object exists, and one that cannot
// be found is an error and not to be made again.
func (d *Database) SealKey() (uid hsm.UID, made bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sealKeyUID, d.sealKeyMade
}

func (d *Database) setSealKey(uid hsm.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sealKeyUID = uid
}

// LockSealKey makes sure that of several processes that open a new store at once one makes
// the seal key: until unlock SealKey tells what the others have left. Call it before
// SealKey and unlock after ConfirmSealKey.
func (d *Database) LockSealKey(ctx context.Context) (unlock func(), err error) {
	unlock, err = d.connection.peers.Lock(ctx, "seal key")
	if err != nil {
		return nil, err
	}
	if err := d.identify(ctx); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// ConfirmSealKey records durably that the token object of the seal key exists. Call it
// after the object was made and before Store. To repeat it does nothing.
func (d *Database) ConfirmSealKey(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sealKeyMade {
		return nil
	}
	if _, err := d.connection.db.ExecContext(ctx, "UPDATE meta SET seal_key_made = 1 WHERE id = 1"); err != nil {
		return unavailable(err, "cannot record in the store that its seal key was made: %v", err)
	}
	d.sealKeyMade = true
	return nil
}

// Store returns the store. open opens the seal key when it is first needed, and again
// whenever the store was sealed under another. Store fails with ErrSealKeyUnconfirmed
// before ConfirmSealKey: rows sealed under a key that a crash could make the store forget
// would be lost. The Store ends with the Database's Close.
func (d *Database) Store(open OpenSealer) (*Store, error) {
	if open == nil {
		return nil, errors.New("keystore: a store needs a way to open its seal key")
	}
	if _, made := d.SealKey(); !made {
		return nil, ErrSealKeyUnconfirmed
	}
	return &Store{database: d, open: open}, nil
}

// Close closes the database and unlocks the store. To repeat it does nothing.
func (d *Database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	return d.connection.close()
}

// identify reads who the store is; a new store gets its identity here. Of several
// processes that open a new store at once one makes it, and the others find it.
func (d *Database) identify(ctx context.Context) error {
	err := d.readOrMake(ctx)
	if err != nil && d.dialect.isConflict(err) {
		return d.readOrMake(ctx)
	}
	return err
}

func (d *Database) readOrMake(ctx context.Context) error {
	tx, err := d.connection.db.BeginTx(ctx, d.dialect.writeOptions)
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
	d.mu.Lock()
	defer d.mu.Unlock()
	switch d.id {
	case "":
		d.id = id
	case id:
	default:
		return unavailable(nil, "the database held the store %s and holds now another, %s", d.id, id)
	}
	d.sealKeyUID, d.sealKeyMade = uid, made
	return nil
}

// readMeta reads the identity. A store that has none yet is sql.ErrNoRows.
func readMeta(ctx context.Context, tx *sql.Tx) (id string, uid hsm.UID, made bool, err error) {
	var madeValue int64
	err = tx.QueryRowContext(ctx, "SELECT store_id, seal_key_made FROM meta WHERE id = 1").Scan(&id, &madeValue)
	if errors.Is(err, sql.ErrNoRows) {
		return "", uid, false, err
	}
	if err != nil {
		return "", uid, false, unavailable(err, "cannot read the identity of the store: %v", err)
	}
	head, err := readHead(ctx, tx, "")
	var domain *kms.Error
	if err != nil && !errors.As(err, &domain) {
		return "", uid, false, unavailable(err, "cannot read the head of the store: %v", err)
	}
	if err != nil {
		return "", uid, false, err
	}
	if uid, err = parseUID(head.keyID); err != nil {
		return "", uid, false, tampered("table head", "the UID of the seal key: %v", err)
	}
	return id, uid, madeValue != 0, nil
}

// makeMeta gives a new store its identity and revision 0. A store that holds anything
// already had an identity, which somebody has removed.
func makeMeta(ctx context.Context, tx *sql.Tx) (id string, uid hsm.UID, err error) {
	for _, name := range append([]string{"head"}, sealedNames()...) {
		rows, err := countRows(ctx, tx, name)
		if err != nil {
			return "", uid, err
		}
		if rows > 0 {
			return "", uid, tampered("table meta", "the store holds %s but its identity is missing", name)
		}
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	_, _ = rand.Read(uid[:])
	id = hex.EncodeToString(random[:])
	if _, err := tx.ExecContext(ctx, "INSERT INTO meta (id, store_id, seal_key_made, confirmations) VALUES (1, $1, 0, 0)", id); err != nil {
		return "", uid, unavailable(err, "cannot write the store: %v", err)
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO head (id, revision, counts, seal, seal_key_id) VALUES (1, 0, $1, $2, $3)",
		new(counts).String(), []byte{}, uid.String()); err != nil {
		return "", uid, unavailable(err, "cannot write the store: %v", err)
	}
	return id, uid, nil
}

// sealedNames returns the names of the sealed tables.
func sealedNames() []string {
	names := make([]string, len(sealedTables))
	for i, t := range sealedTables {
		names[i] = t.name
	}
	return names
}

// countRows returns how many rows a table has.
func countRows(ctx context.Context, q querier, table string) (rows int64, err error) {
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&rows); err != nil {
		return 0, unavailable(err, "cannot read the store: %v", err)
	}
	return rows, nil
}
