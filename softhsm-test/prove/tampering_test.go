package prove

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

// exitTampered is kmsd's exit code for metadata that cannot be trusted.
const exitTampered = 76

// What the suite of package keystoretest shows of stores, these tests show of the server as
// a whole: it does not start, and says why; or it does, and says which version it refuses.

// tampered is a server with a row of each kind, each of which has changed once.
type tampered struct {
	*lone
	orders, cards kms.KeyName // DERIVED, with two versions; STRICT
	secret        []dataKey   // under orders' first version
	storeID       string
}

func newTampered(t *testing.T, database string) *tampered {
	t.Helper()
	v := &tampered{lone: newLone(t, database)}
	v.begin(t)
	v.orders, v.cards = v.createKey(t, "orders", kms.ProfileDerived), v.createKey(t, "cards", kms.ProfileStrict)
	var err error
	if v.secret, err = generate(t.Context(), v.control, v.orders, 1); err != nil {
		t.Fatal(err)
	}
	report, err := v.control.VerifyStore(t.Context(), kms.Principal{})
	if err != nil {
		t.Fatal(err)
	}
	v.storeID = report.StoreID
	v.encrypt(t, v.cards)
	return v
}

func (v *tampered) encrypt(t *testing.T, key kms.KeyName) []byte {
	t.Helper()
	r, err := v.control.Encrypt(t.Context(), kms.Principal{}, &kms.EncryptRequest{Key: key, Plaintext: kms.Secret("x")})
	if err != nil {
		t.Fatal(err)
	}
	return r.Ciphertext
}

func (v *tampered) rotate(t *testing.T, key kms.KeyName) {
	t.Helper()
	if _, err := v.control.RotateKey(t.Context(), kms.Principal{}, &kms.RotateKeyRequest{Name: key}); err != nil {
		t.Fatal(err)
	}
}

func (v *tampered) revoke(t *testing.T, name kms.VersionName) {
	t.Helper()
	request := &kms.RevokeRequest{Name: name, Reason: "leaked", DataLossAccepted: true}
	if _, err := v.control.RevokeKeyVersion(t.Context(), kms.Principal{}, request); err != nil {
		t.Fatal(err)
	}
}

// scheduleOrphans has the orphans destroyed after a window.
func (v *tampered) scheduleOrphans(ctx context.Context, window time.Duration, uids ...hsm.UID) error {
	_, err := v.control.ScheduleOrphanDestruction(ctx, kms.Principal{},
		&kms.OrphanDestructionRequest{UIDs: uids, Window: window, Reason: "a crash left it"})
	return err
}

// change changes a row of each kind that can, and makes those that were missing.
func (v *tampered) change(t *testing.T) {
	t.Helper()
	v.revoke(t, v.orders.Version(1))
	v.rotate(t, v.orders)
	v.encrypt(t, v.cards) // of a new block, so that the counter rises
	for i, window := range []time.Duration{time.Millisecond, time.Hour} {
		if err := v.scheduleOrphans(t.Context(), window, hsm.UID{0x0f, byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	gone := func(ctx context.Context, _ *replica) error {
		orphans, err := v.control.ListOrphans(ctx, kms.Principal{})
		if err == nil && len(orphans) != 1 {
			err = errors.New("the orphan that is due is still there")
		}
		return err
	}
	if _, err := v.awaitServing(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
}

// tampering is a change of the database, and what the server must say of it.
type tampering struct {
	table string
	how   string
	says  string
}

// tamperings are one of each kind and table. Who deletes a row is told by what refers to
// it, or else the number of rows; a row put back by the set of all rows, in which no row
// can be named that is missing.
func tamperings() []tampering {
	const (
		orders   = "namespaces/default/keys/orders"
		back     = "put back to an older state"
		putBack  = "put back"
		version1 = "key_id = 'orders' AND number = 1"
	)
	return []tampering{
		{"namespaces", "UPDATE namespaces SET created_by = 'me'", "namespaces/default:"},
		{"namespaces", "DELETE FROM namespaces", "the row of its namespace is missing"},
		{"keys", "UPDATE keys SET primary_version = 1 WHERE key_id = 'orders'", orders + ":"},
		{"keys", "DELETE FROM keys WHERE key_id = 'orders'", "the row of its key is missing"},
		{"keys", putBack, back},
		{"versions", "UPDATE versions SET state = 'ENABLED' WHERE " + version1, orders + "/versions/1:"},
		{"versions", "DELETE FROM versions WHERE " + version1, orders + "/versions/1:"},
		{"versions", putBack, back},
		{"reservations", "UPDATE reservations SET taken = 0", "encryption counter of key version UID "},
		{"reservations", "DELETE FROM reservations", "its encryption counter is missing"},
		{"reservations", putBack, back},
		{"orphans", "UPDATE orphans SET destroy_time = 0", "orphan with UID 0f01"},
		{"orphans", "DELETE FROM orphans", "orphan=0"},
		{"removals", "UPDATE removals SET name = '0f010000000000000000000000000000'", "removal of the orphan 0f01"},
		{"removals", "DELETE FROM removals", "removal=0"},
		{"head", "UPDATE head SET revision = revision - 1", ", but the store is at "},
		{"head", "DELETE FROM head", "table head"},
	}
}

// TestTamperedRows: of a store in which one row was changed, removed, or put back to an
// older state of itself, the server says so and ends.
func TestTamperedRows(t *testing.T) {
	for _, database := range []string{onSQLite, onPostgres} {
		t.Run(database, func(t *testing.T) {
			v := newTampered(t, database)
			v.stop(t)
			for i := range byte(2) {
				v.makeObject(t, hsm.UID{0x0f, i}, "keyholt:"+v.storeID+":1700000000")
			}
			v.copyAll(t, "older")
			v.begin(t)
			v.change(t)
			v.stop(t)
			v.copyAll(t, "newer")
			for _, change := range tamperings() {
				if change.how == "put back" {
					v.putBackChanged(t, change.table)
				} else {
					v.execute(t, change.how)
				}
				if said := v.refused(t, exitTampered); !strings.Contains(said, change.says) {
					t.Errorf("%s: %s: the server says %q, want it to say %q", change.table, change.how, said, change.says)
				}
				v.putBackAll(t, "newer")
			}
			v.begin(t)
			if err := v.unwrap(t.Context(), v.secret[0]); !errors.Is(err, kms.ErrVersionRevoked) {
				t.Errorf("a revoked version, when all is as it was: %v", err)
			}
			v.stop(t)
		})
	}
}

// putBackChanged puts the rows of a table back that have changed, each with its good seal.
// Rows that are new stay.
func (v *tampered) putBackChanged(t *testing.T, table string) {
	t.Helper()
	same := map[string]string{
		"keys": "o.key_id = n.key_id", "versions": "o.uid = n.uid", "reservations": "o.uid = n.uid",
	}[table]
	v.execute(t, "DELETE FROM "+table,
		"INSERT INTO "+table+" SELECT * FROM older_"+table+" o WHERE EXISTS (SELECT 1 FROM newer_"+table+" n WHERE "+same+")",
		"INSERT INTO "+table+" SELECT * FROM newer_"+table+" n WHERE NOT EXISTS (SELECT 1 FROM older_"+table+" o WHERE "+same+")")
}

// TestRolledBackStore: a store that was put back as a whole is sound in itself. Either
// anchor alone tells, and the server starts only for an operator who gives a reason.
func TestRolledBackStore(t *testing.T) {
	for _, database := range []string{onSQLite, onPostgres} {
		t.Run(database, func(t *testing.T) {
			v := newTampered(t, database)
			sealed := v.encrypt(t, v.cards)
			v.stop(t)
			v.makeObject(t, hsm.UID{0x0f}, "keyholt:"+v.storeID+":1700000000")
			v.copyAll(t, "older")
			v.begin(t)
			v.revoke(t, v.orders.Version(1))
			v.stop(t)
			v.putBackAll(t, "older")
			v.refusedByEither(t)
			v.accepted(t, sealed)
			v.originTampered(t)
		})
	}
}

// refusedByEither starts the server with both anchors, and with either.
func (v *tampered) refusedByEither(t *testing.T) {
	t.Helper()
	file, object := "the file "+v.anchorFile(), "the token object "+v.anchorUID(t, v.storeID).String()
	said := v.refused(t, exitTampered)
	if !strings.Contains(said, file) || !strings.Contains(said, "--accept-rollback") {
		t.Errorf("with both anchors the server says %q", said)
	}
	putBack := removed(t, v.anchorFile())
	if said := v.refused(t, exitTampered); !strings.Contains(said, object) {
		t.Errorf("with the anchor in the token the server says %q", said)
	}
	putBack()
	v.deleteObject(t, v.anchorUID(t, v.storeID))
	if said := v.refused(t, exitTampered); !strings.Contains(said, file) {
		t.Errorf("with the anchor in the file the server says %q", said)
	}

	// Neither can be made up, or be one that cannot be read.
	putBack = removed(t, v.anchorFile())
	if err := os.WriteFile(v.anchorFile(), []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := v.refused(t, exitTampered); !strings.Contains(said, v.anchorFile()) {
		t.Errorf("with a file that is no anchor the server says %q", said)
	}
	putBack()
}

// accepted starts the server for an operator who accepts what the store holds.
func (v *tampered) accepted(t *testing.T, sealed []byte) {
	t.Helper()
	const reason = "the disk is lost; the last backup is from Tuesday"
	if err := v.launch(t, "serve", "--config", v.configFile(), "--accept-rollback", reason); err != nil {
		t.Fatal(err)
	}
	v.await(t)
	found := false
	err := readRecords(v.auditFile(), func(r *record) {
		found = found || r.Action == string(kms.ActionAcceptRollback) && r.Outcome == outcomeOK && strings.HasPrefix(r.Reason, reason)
	})
	if err != nil || !found {
		t.Errorf("the audit log does not say that the roll-back was accepted (%v)", err)
	}

	// What was revoked is ENABLED again in the rows. Its object is off: the second wall.
	if err := v.unwrap(t.Context(), v.secret[0]); !errors.Is(err, kms.ErrVersionUnavailable) {
		t.Errorf("a version that had been revoked: %v", err)
	}
	if why := v.version(t, v.orders.Version(1)).Unavailable; !strings.Contains(why, "from before a revocation") {
		t.Errorf("a version that had been revoked is unavailable because %q", why)
	}

	// How often a STRICT version has encrypted is not known any more.
	ctx, caller := t.Context(), kms.Principal{}
	_, err = v.control.Encrypt(ctx, caller, &kms.EncryptRequest{Key: v.cards, Plaintext: kms.Secret("x")})
	if err == nil || !strings.Contains(err.Error(), "rotate") {
		t.Errorf("new encryption under a STRICT version from before the roll-back: %v", err)
	}
	opened, err := v.control.Decrypt(ctx, caller, &kms.DecryptRequest{Parent: v.parent, Ciphertext: sealed})
	if err != nil || string(opened.Plaintext) != "x" {
		t.Errorf("decryption under a STRICT version from before the roll-back: %v", err)
	}
	v.rotate(t, v.cards)
	v.encrypt(t, v.cards)

	// What no row names may be what the store has forgotten.
	if orphans, err := v.control.ListOrphans(ctx, caller); err != nil || len(orphans) != 1 {
		t.Errorf("%d orphans, %v", len(orphans), err)
	}
	if err := v.scheduleOrphans(ctx, time.Hour); !errors.Is(err, kms.ErrRollbackAccepted) {
		t.Errorf("destruction of orphans after the roll-back: %v", err)
	}
	v.stop(t)

	// From now on all is as it ever was.
	v.begin(t)
	v.encrypt(t, v.cards)
	v.stop(t)
}

// originTampered holds that nobody can make a store forget that it was put back.
func (v *tampered) originTampered(t *testing.T) {
	t.Helper()
	v.copyAll(t, "newest")
	for how, says := range map[string]string{
		"UPDATE origin SET epoch = 7": "origin of the store",
		"DELETE FROM origin":          "origin=0",
	} {
		v.execute(t, how)
		if said := v.refused(t, exitTampered); !strings.Contains(said, says) {
			t.Errorf("%s: the server says %q, want it to say %q", how, said, says)
		}
		v.putBackAll(t, "newest")
	}
}

// TestRolledBackWithoutAnchors: who puts the store back and removes both anchors is not
// refused: that is documented, and said at the start. A revoked version stays off in the
// token all the same.
func TestRolledBackWithoutAnchors(t *testing.T) {
	v := newTampered(t, onSQLite)
	v.stop(t)
	v.copyAll(t, "older")
	v.begin(t)
	v.revoke(t, v.orders.Version(1))
	v.stop(t)
	v.putBackAll(t, "older")
	removed(t, v.anchorFile())
	v.deleteObject(t, v.anchorUID(t, v.storeID))
	v.begin(t)
	if !slices.ContainsFunc(v.findings(t), func(finding string) bool {
		return strings.Contains(finding, "nothing was noted in the file "+v.anchorFile()+", the token object")
	}) {
		t.Errorf("nothing is said of the anchors: %q", v.findings(t))
	}
	if err := v.unwrap(t.Context(), v.secret[0]); !errors.Is(err, kms.ErrVersionUnavailable) {
		t.Errorf("a version that had been revoked: %v", err)
	}
	v.stop(t)
}

// TestTamperedAnchorObject: a label that the server does not give its anchor is refused.
func TestTamperedAnchorObject(t *testing.T) {
	v := newTampered(t, onSQLite)
	v.stop(t)
	uid := v.anchorUID(t, v.storeID)
	v.setAttribute(t, uid, pkcs11.CKA_LABEL, "keyholt-anchor:"+v.storeID+":none")
	if said := v.refused(t, exitTampered); !strings.Contains(said, "the token object "+uid.String()) {
		t.Errorf("the server says %q", said)
	}
}

// TestTamperedObjects: what was done to the objects of versions is mended or named at the
// start, or named at the first use; and other keys are not concerned.
func TestTamperedObjects(t *testing.T) {
	v := &tampered{lone: newLone(t, onSQLite)}
	v.begin(t)
	made := make(map[string]dataKey)
	uids := make(map[string]hsm.UID)
	ids := []string{"revoked", "off", "wider", "deleted", "swapped-a", "swapped-b", "strict-a", "strict-b", "bystander"}
	for _, id := range ids {
		profile := kms.ProfileDerived
		if strings.HasPrefix(id, "strict") {
			profile = kms.ProfileStrict
		}
		key := v.createKey(t, id, profile)
		data, err := generate(t.Context(), v.control, key, 1)
		if err != nil {
			t.Fatal(err)
		}
		made[id], uids[id] = data[0], v.version(t, key.Version(1)).UID
	}
	v.revoke(t, made["revoked"].version)
	v.stop(t)

	v.setAttribute(t, uids["revoked"], pkcs11.CKA_ENCRYPT, true)
	v.setAttribute(t, uids["off"], pkcs11.CKA_ENCRYPT, false)
	v.setAttribute(t, uids["wider"], pkcs11.CKA_DECRYPT, true)
	v.deleteObject(t, uids["deleted"])
	v.swapUIDs(t, uids["swapped-a"], uids["swapped-b"])
	v.swapUIDs(t, uids["strict-a"], uids["strict-b"])
	v.begin(t)

	const notMade = "is not the key that was made for it"
	for id, want := range map[string]struct {
		refusal error
		why     string // of the version's being unavailable
		first   bool   // found out at the first use only
	}{
		"revoked":   {kms.ErrVersionRevoked, "", false},
		"off":       {kms.ErrVersionUnavailable, "was switched off behind the service's back", false},
		"wider":     {kms.ErrVersionUnavailable, "not of the kind that was made for it", false},
		"deleted":   {kms.ErrVersionUnavailable, "is missing from the token", false},
		"swapped-a": {kms.ErrVersionUnavailable, notMade, true},
		"swapped-b": {kms.ErrVersionUnavailable, notMade, true},
		"strict-a":  {kms.ErrVersionUnavailable, notMade, true},
		"strict-b":  {kms.ErrVersionUnavailable, notMade, true},
		"bystander": {nil, "", false},
	} {
		named := slices.ContainsFunc(v.findings(t), func(finding string) bool {
			return strings.Contains(finding, "keys/"+id+"/versions/1:") && strings.Contains(finding, "unavailable")
		})
		if named != (want.why != "" && !want.first) {
			t.Errorf("%s: named at the start: %v", id, named)
		}
		if err := v.unwrap(t.Context(), made[id]); !errors.Is(err, want.refusal) {
			t.Errorf("%s: use: %v, want %v", id, err, want.refusal)
		}
		if why := v.version(t, made[id].version).Unavailable; !strings.Contains(why, want.why) || want.why == "" && why != "" {
			t.Errorf("%s: unavailable because %q, want %q", id, why, want.why)
		}
	}
	v.stop(t)
	if v.isOn(t, uids["revoked"]) {
		t.Error("the object of a revoked version was not switched off again")
	}
	if v.isOn(t, uids["off"]) {
		t.Error("the object of a version that was switched off was switched on")
	}

	// What was swapped back is right again.
	v.swapUIDs(t, uids["swapped-a"], uids["swapped-b"])
	v.begin(t)
	if err := v.unwrap(t.Context(), made["swapped-a"]); err != nil {
		t.Errorf("swapped back: %v", err)
	}
	v.stop(t)
}
