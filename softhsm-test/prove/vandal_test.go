package prove

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/miekg/pkcs11"
	_ "modernc.org/sqlite" // the driver sqlite

	"github.com/keyholt/keyholt/hsm"
)

// The methods of lone in this file do what somebody could who can write the database, or
// has the PIN of the token, behind the server's back and while it is stopped.

// sealedTables are the tables whose rows are sealed, and the head of all.
var sealedTables = []string{"head", "origin", "namespaces", "keys", "versions", "reservations", "orphans", "removals"}

func (l *lone) databaseFile() string { return filepath.Join(l.dataDir(), "keyholt.db") }

// execute executes statements in the database, with its constraints off.
func (l *lone) execute(t *testing.T, statements ...string) {
	t.Helper()
	driver, dsn, free := "sqlite", l.databaseFile(), "PRAGMA foreign_keys = OFF"
	if l.dsn != "" {
		driver, dsn, free = "pgx", l.dsn, ""
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	db.SetMaxOpenConns(1) // of which free sets the constraints
	for _, statement := range append([]string{free}, statements...) {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// copyAll copies all sealed rows aside, under a name, and putBackAll puts them back.
func (l *lone) copyAll(t *testing.T, name string) {
	t.Helper()
	if l.dsn != "" { // in SQLite execute does without them
		l.execute(t, "ALTER TABLE keys DROP CONSTRAINT IF EXISTS keys_namespace_id_fkey",
			"ALTER TABLE versions DROP CONSTRAINT IF EXISTS versions_namespace_id_key_id_fkey",
			"ALTER TABLE reservations DROP CONSTRAINT IF EXISTS reservations_uid_fkey")
	}
	for _, table := range sealedTables {
		l.execute(t, "CREATE TABLE "+name+"_"+table+" AS SELECT * FROM "+table)
	}
}

func (l *lone) putBackAll(t *testing.T, name string) {
	t.Helper()
	for _, table := range sealedTables {
		l.execute(t, "DELETE FROM "+table, "INSERT INTO "+table+" SELECT * FROM "+name+"_"+table)
	}
}

// withObjects runs f with a session in the token, on the handles of objects by UID.
func (l *lone) withObjects(t *testing.T, f func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, find func(hsm.UID) pkcs11.ObjectHandle) error) {
	t.Helper()
	ctx := pkcs11.New(l.softhsm.ModulePath())
	if ctx == nil {
		t.Fatal("the module cannot be loaded")
	}
	defer ctx.Destroy()
	if err := ctx.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ctx.Finalize(); err != nil {
			t.Error(err)
		}
	}()
	session, err := l.logIn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	find := func(uid hsm.UID) pkcs11.ObjectHandle {
		err := ctx.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:])})
		if err != nil {
			t.Fatal(err)
		}
		found, _, err := ctx.FindObjects(session, 2)
		if err = errors.Join(err, ctx.FindObjectsFinal(session)); err != nil || len(found) != 1 {
			t.Fatalf("%d objects of UID %s, %v", len(found), uid, err)
		}
		return found[0]
	}
	if err := f(ctx, session, find); err != nil {
		t.Fatal(err)
	}
}

func (l *lone) logIn(ctx *pkcs11.Ctx) (pkcs11.SessionHandle, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err != nil || strings.TrimRight(info.Label, " \x00") != l.softhsm.Label() {
			continue
		}
		session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return 0, err
		}
		return session, ctx.Login(session, pkcs11.CKU_USER, l.softhsm.PIN())
	}
	return 0, errors.New("the token is not there")
}

// setAttribute changes an attribute of an object.
func (l *lone) setAttribute(t *testing.T, uid hsm.UID, attribute uint, value any) {
	t.Helper()
	l.withObjects(t, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, find func(hsm.UID) pkcs11.ObjectHandle) error {
		return ctx.SetAttributeValue(s, find(uid), []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, value)})
	})
}

// isOn reads CKA_ENCRYPT of an object.
func (l *lone) isOn(t *testing.T, uid hsm.UID) (on bool) {
	t.Helper()
	l.withObjects(t, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, find func(hsm.UID) pkcs11.ObjectHandle) error {
		values, err := ctx.GetAttributeValue(s, find(uid), []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, nil)})
		if err == nil {
			on = len(values[0].Value) == 1 && values[0].Value[0] == 1
		}
		return err
	})
	return on
}

// swapUIDs exchanges the CKA_ID of two objects.
func (l *lone) swapUIDs(t *testing.T, a, b hsm.UID) {
	t.Helper()
	l.withObjects(t, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, find func(hsm.UID) pkcs11.ObjectHandle) error {
		first, second := find(a), find(b)
		return errors.Join(
			ctx.SetAttributeValue(s, first, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, b[:])}),
			ctx.SetAttributeValue(s, second, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, a[:])}))
	})
}

// deleteObject deletes an object.
func (l *lone) deleteObject(t *testing.T, uid hsm.UID) {
	t.Helper()
	l.withObjects(t, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, find func(hsm.UID) pkcs11.ObjectHandle) error {
		return ctx.DestroyObject(s, find(uid))
	})
}

// makeObject makes a key object with a label.
func (l *lone) makeObject(t *testing.T, uid hsm.UID, label string) {
	t.Helper()
	l.withObjects(t, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, _ func(hsm.UID) pkcs11.ObjectHandle) error {
		_, err := ctx.GenerateKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, uid[:]),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		})
		return err
	})
}

// anchorUID is the UID of the token's object that anchors a store.
func (l *lone) anchorUID(t *testing.T, storeID string) (uid hsm.UID) {
	t.Helper()
	l.withObjects(t, func(ctx *pkcs11.Ctx, s pkcs11.SessionHandle, _ func(hsm.UID) pkcs11.ObjectHandle) error {
		if err := ctx.FindObjectsInit(s, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY)}); err != nil {
			return err
		}
		found, _, err := ctx.FindObjects(s, 1000)
		if err = errors.Join(err, ctx.FindObjectsFinal(s)); err != nil {
			return err
		}
		for _, object := range found {
			values, err := ctx.GetAttributeValue(s, object, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_ID, nil), pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil),
			})
			if err != nil {
				return err
			}
			if strings.HasPrefix(string(values[1].Value), "keyholt-anchor:"+storeID+":") {
				copy(uid[:], values[0].Value)
				return nil
			}
		}
		return errors.New("the token holds no anchor")
	})
	return uid
}

// anchorFile is the other anchor.
func (l *lone) anchorFile() string { return filepath.Join(l.dataDir(), "anchor.json") }

// removed removes a file until putBack.
func removed(t *testing.T, path string) (putBack func()) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
