package kms_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// backup takes a backup.
func (w *world) backup() []byte {
	w.t.Helper()
	var content bytes.Buffer
	if _, err := w.service.BackupStore(w.t.Context(), admin, &content); err != nil {
		w.t.Fatalf("BackupStore: %v", err)
	}
	return content.Bytes()
}

// newStore starts a service on a new store and the token of w, which is stopped. Its
// backups can be read there.
func (w *world) newStore() *world {
	w.t.Helper()
	w.stop()
	r := &world{t: w.t, memory: w.memory, config: w.config, auditor: &recorder{}}
	if w.sqlite != "" {
		r.sqlite = filepath.Join(w.t.TempDir(), "new.db")
	} else {
		r.database = newMemoryDatabase()
		r.database.backups = w.database.backups
	}
	r.mustStart()
	w.t.Cleanup(r.stop)
	return r
}

func (w *world) restore(backup []byte, accept bool) (*kms.StoreReport, error) {
	return w.service.RestoreStore(w.t.Context(), admin,
		&kms.RestoreStoreRequest{Backup: bytes.NewReader(backup), Reason: "the disk is gone", AcceptRollback: accept})
}

// A backup brings back what there was, under a store that says so: STRICT versions make no
// new ciphertext until their keys are rotated, every version counts as used, and no
// destruction comes sooner than a whole window.
func TestRestoreStore(t *testing.T) {
	t.Parallel()
	for _, sqlite := range []bool{false, true} {
		clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
		w := &world{t: t, memory: hsmtest.NewMemory(hsmtest.MemoryConfig{}), database: newMemoryDatabase(), auditor: &recorder{}}
		w.config = func(c *kms.Config) {
			c.Now = clock.time
			c.Destruction = kms.DestructionLimits{Window: time.Hour, MinWindow: time.Minute}
		}
		if sqlite {
			w.sqlite = filepath.Join(t.TempDir(), "keyholt.db")
		}
		w.mustStart()
		t.Cleanup(w.stop)
		testRestoreStore(t, w, clock)
	}
}

func testRestoreStore(t *testing.T, w *world, clock *clock) {
	derived, strict := w.create("derived", kms.ProfileDerived), w.create("strict", kms.ProfileStrict)
	doomed, revoked, unused := w.create("doomed", kms.ProfileDerived), w.create("revoked", kms.ProfileDerived), w.create("unused", kms.ProfileDerived)
	secret, secretToo := w.mustEncrypt(derived, "secret"), w.mustEncrypt(strict, "secret too")
	if _, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: revoked.Version(1), Reason: "leaked"}); err != nil {
		t.Fatal(err)
	}
	w.schedule(doomed.Version(1), 2*time.Minute)
	backup := w.backup()
	if e := w.auditor.find(kms.ActionBackupStore); e.Err != nil || e.Principal != admin {
		t.Fatalf("the record of the backup: %+v", e)
	}
	if _, err := w.service.RestoreKeyVersion(t.Context(), admin, doomed.Version(1), ""); err != nil {
		t.Fatal(err) // what the backup does not know
	}
	if err := w.memory.TamperUsable(w.uid(revoked.Version(1)), true); err != nil {
		t.Fatal(err)
	}
	unusedUID := w.uid(unused.Version(1))
	if err := w.memory.TamperDelete(unusedUID); err != nil {
		t.Fatal(err)
	}

	clock.advance(5 * time.Minute)
	r := w.newStore()
	report, err := r.restore(backup, false)
	if err != nil {
		t.Fatalf("RestoreStore: %v", err)
	}
	if report.Rows["keys"] != 5 || report.Rows["versions"] != 5 || report.Rows["origin"] != 1 || report.Rows["namespaces"] != 1 ||
		report.StoreID != r.store.ID() || report.SealKey != r.store.SealKey() {
		t.Fatalf("the report: %+v", report)
	}
	if len(report.Problems) != 1 || !strings.Contains(report.Problems[0], unused.String()) {
		t.Fatalf("the problems: %q", report.Problems)
	}
	if named := r.namedUnavailable(); !slices.Equal(named, []string{unused.Version(1).String()}) {
		t.Fatalf("Diagnose names %q", named)
	}
	if e := r.auditor.find(kms.ActionRestoreStore); e.Reason != "the disk is gone" || e.Err != nil || e.Spread == nil {
		t.Fatalf("the record of the restoration: %+v", e)
	}
	check := func() {
		t.Helper()
		if got, err := r.decrypt(derived, secret); err != nil || got != "secret" {
			t.Fatalf("Decrypt: %q, %v", got, err)
		}
		if got, err := r.decrypt(strict, secretToo); err != nil || got != "secret too" {
			t.Fatalf("Decrypt of a STRICT key: %q, %v", got, err)
		}
		r.mustEncrypt(derived, "new")
		_, err := r.encrypt(strict, "new")
		wantError(t, err, kms.ErrNoEnabledPrimary, "Encrypt under a STRICT version from before")
		wantError(t, errors.Unwrap(err), kms.ErrEncryptionLimit, "its cause")
		if object, err := r.faults.Key(t.Context(), r.uid(revoked.Version(1))); err != nil || object.Usable {
			t.Fatalf("the object of a revoked version is usable: %v, %v", object.Usable, err)
		}
	}
	check()
	r.restart()
	check()
	_, err = r.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: unused.Version(1), Reason: "r"})
	wantError(t, err, kms.ErrDataLoss, "revoking a version of which nothing is known")

	if _, err := r.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: strict}); err != nil {
		t.Fatal(err)
	}
	r.mustEncrypt(strict, "new")
	r.restart()
	r.mustEncrypt(strict, "newer")

	// The window of the destruction begins anew.
	if v := r.version(doomed.Version(1)); v.State != kms.StateDestroyScheduled || v.DestroyTime.Sub(clock.time()) != time.Hour {
		t.Fatalf("what was to be destroyed: %+v", v)
	}
	clock.advance(time.Hour - time.Second)
	r.wakeUp(derived)
	if _, err := r.service.RestoreKeyVersion(t.Context(), admin, doomed.Version(1), ""); err != nil {
		t.Fatalf("RestoreKeyVersion within the new window: %v", err)
	}
	r.schedule(doomed.Version(1), 2*time.Minute)
	clock.advance(3 * time.Minute)
	r.wakeUp(derived)
	r.awaitState(doomed.Version(1), kms.StateDestroyed)
}

// A restoration is refused into a store with keys, of what is no backup, without a reason,
// and of a backup that is older than the token remembers unless that is accepted.
func TestRestoreStoreRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, func(c *kms.Config) {
		c.Anchors = []kms.Anchor{kms.NewTokenAnchor(c.Token, c.Store.ID())}
	})
	name := w.create("orders", kms.ProfileDerived)
	backup := w.backup()
	_, err := w.restore(backup, false)
	wantError(t, err, kms.ErrStoreNotEmpty, "RestoreStore into a store with keys")
	if _, err := w.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: name.Version(1), Reason: "leaked"}); err != nil {
		t.Fatal(err)
	}
	r := w.newStore()
	_, err = r.restore([]byte("nonsense"), false)
	wantError(t, err, kms.ErrInvalidRequest, "RestoreStore of nonsense")
	_, err = r.service.RestoreStore(t.Context(), admin, &kms.RestoreStoreRequest{Backup: bytes.NewReader(backup)})
	wantError(t, err, kms.ErrInvalidRequest, "RestoreStore without a reason")
	_, err = r.restore(backup, false)
	wantError(t, err, kms.ErrRolledBack, "RestoreStore of an old backup")
	if _, err := r.service.GetKey(t.Context(), admin, name); !errors.Is(err, kms.ErrKeyNotFound) {
		t.Fatalf("after the refusals: %v", err)
	}
	// The revocation was forgotten by the backup, but not by the token.
	report, err := r.restore(backup, true)
	if err != nil || len(report.Problems) != 1 {
		t.Fatalf("RestoreStore: %+v, %v", report, err)
	}
	_, err = r.encrypt(name, "x")
	wantError(t, err, kms.ErrNoEnabledPrimary, "Encrypt")
	_, err = r.restore(backup, true)
	wantError(t, err, kms.ErrStoreNotEmpty, "RestoreStore a second time")
}

// The store can be sealed anew while it is in use, and stands up to verification after.
func TestResealAndVerify(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	second := first.newReplica()
	name := first.create("orders", kms.ProfileDerived)
	ciphertext := first.mustEncrypt(name, "secret")
	old := first.database.sealKey
	report, err := second.service.ResealStore(t.Context(), admin, "yearly")
	if err != nil || report.SealKey == old || report.SealKey != first.database.sealKey || len(report.Spread.Acknowledged) != 2 {
		t.Fatalf("ResealStore: %+v, %v", report, err)
	}
	for _, w := range []*world{first, second} {
		verified, err := w.service.VerifyStore(t.Context(), admin)
		if err != nil || len(verified.Problems) != 0 || verified.SealKey != report.SealKey || verified.Revision < report.Revision ||
			verified.Rows["keys"] != 1 {
			t.Fatalf("VerifyStore: %+v, %v", verified, err)
		}
		if orphans, err := w.service.ListOrphans(t.Context(), admin); err != nil || len(orphans) != 0 {
			t.Fatalf("a seal key is an orphan: %+v, %v", orphans, err)
		}
		if got, err := w.decrypt(name, ciphertext); err != nil || got != "secret" {
			t.Fatalf("Decrypt: %q, %v", got, err)
		}
	}
}

// A store that was put back while the service runs is named by VerifyStore.
func TestVerifyStoreNoticesAnOlderStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	w.create("orders", kms.ProfileDerived)
	w.database.mu.Lock()
	w.database.head.Revision -= 2
	w.database.mu.Unlock()
	report, err := w.service.VerifyStore(t.Context(), admin)
	if err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "backwards") {
		t.Fatalf("VerifyStore: %+v, %v", report, err)
	}
}

// Each replica lists all, itself among them.
func TestListReplicas(t *testing.T) {
	t.Parallel()
	alone := newWorld(t, hsmtest.MemoryConfig{}, nil)
	list, err := alone.service.ListReplicas(t.Context(), admin)
	if err != nil || len(list) != 1 || !list[0].Self || !list[0].Live || list[0].Applied == 0 {
		t.Fatalf("ListReplicas: %+v, %v", list, err)
	}
	names := []string{"first", "second"}
	next := 0
	first := newSharedWorld(t, func(c *kms.Config) {
		c.Replica.Name, c.Replica.Release = names[next%2], "v1"
		next++
	})
	second := first.newReplica()
	first.create("orders", kms.ProfileDerived)
	for i, w := range []*world{first, second} {
		var list []*kms.ReplicaInfo
		w.await("no lag", func() bool { // each replica's row follows what it has acknowledged
			list, err = w.service.ListReplicas(t.Context(), admin)
			return err == nil && len(list) == 2 && list[0].Lag+list[1].Lag == 0
		})
		for _, r := range list {
			if !r.Live || r.Applied == 0 || r.Self != (r.Replica == names[i]) || r.Release != "v1" {
				t.Fatalf("%s lists %+v", names[i], r)
			}
		}
	}
	second.stop()
	if list, err = first.service.ListReplicas(t.Context(), admin); err != nil || len(list) != 1 {
		t.Fatalf("after one has left: %+v, %v", list, err)
	}
}
