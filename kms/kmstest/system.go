package kmstest

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
)

func testReplicas(t *testing.T, s *suite) {
	s.mustCreate("orders", kms.ProfileDerived)
	replicas, err := s.Admin.API.ListReplicas(s.ctx, s.Admin.Principal)
	wantOK(t, err, "ListReplicas")
	if len(replicas) != 1 {
		t.Fatalf("%d replicas of a service that is alone", len(replicas))
	}
	if r := replicas[0]; !r.Self || !r.Live || r.Lag != 0 || r.Replica == "" || r.Applied == 0 || r.StartTime.IsZero() {
		t.Fatalf("the only replica is %+v", r)
	}
}

func testVerifyStore(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	s.mustRotate(name)
	s.mustCreate("cards", kms.ProfileStrict)
	report, err := s.Admin.API.VerifyStore(s.ctx, s.Admin.Principal)
	wantOK(t, err, "VerifyStore")
	if len(report.Problems) > 0 || len(report.StoreID) != 16 || report.Revision == 0 || report.SealKey == (hsm.UID{}) {
		t.Fatalf("VerifyStore returned %+v", report)
	}
	for kind, want := range map[string]int{"namespaces": 1, "keys": 2, "versions": 3} {
		if report.Rows[kind] != want {
			t.Errorf("%d %s were verified, want %d", report.Rows[kind], kind, want)
		}
	}
}

func testResealStore(t *testing.T, s *suite) {
	name := s.mustCreate("orders", kms.ProfileDerived)
	ciphertext := s.mustEncrypt(name, "secret", kms.Binding{})
	before, err := s.Admin.API.VerifyStore(s.ctx, s.Admin.Principal)
	wantOK(t, err, "VerifyStore")
	_, err = s.Admin.API.ResealStore(s.ctx, s.Admin.Principal, " ")
	wantViolation(t, err, "reason", "ResealStore for no reason")
	resealed, err := s.Admin.API.ResealStore(s.ctx, s.Admin.Principal, "a new year")
	wantOK(t, err, "ResealStore")
	if resealed.SealKey == before.SealKey || resealed.SealKey == (hsm.UID{}) || resealed.Revision <= before.Revision {
		t.Fatalf("ResealStore returned %+v after %+v", resealed, before)
	}
	if resealed.Rows["keys"] != 1 || resealed.Rows["versions"] != 1 {
		t.Errorf("sealed anew: %v", resealed.Rows)
	}
	after, err := s.Admin.API.VerifyStore(s.ctx, s.Admin.Principal)
	wantOK(t, err, "VerifyStore of what was sealed anew")
	if len(after.Problems) > 0 || after.SealKey != resealed.SealKey {
		t.Fatalf("VerifyStore returned %+v", after)
	}
	if got := s.mustDecrypt(ciphertext, kms.Binding{}); got != "secret" {
		t.Fatalf("after the reseal: %q", got)
	}
	s.mustRotate(name)
}

func testBackup(t *testing.T, s *suite) {
	api, admin := s.Admin.API, s.Admin.Principal
	_, err := api.CreateNamespace(s.ctx, admin, s.namespace("shop"))
	wantOK(t, err, "CreateNamespace")
	restore := func(backup, reason string) (*kms.StoreReport, error) {
		return api.RestoreStore(s.ctx, admin, &kms.RestoreStoreRequest{
			Backup: strings.NewReader(backup), Reason: reason, AcceptRollback: true,
		})
	}
	var empty bytes.Buffer
	_, err = api.BackupStore(s.ctx, admin, &empty)
	wantOK(t, err, "BackupStore of a store without keys")
	_, err = restore(empty.String(), "")
	wantViolation(t, err, "reason", "RestoreStore for no reason")
	for name, backup := range map[string]string{
		"nothing": "", "nonsense": "this is no backup", "half a backup": empty.String()[:empty.Len()/2],
	} {
		_, err = restore(backup, "a test")
		wantError(t, err, kms.ErrInvalidRequest, "RestoreStore of "+name)
	}

	name := s.mustCreate("orders", kms.ProfileDerived)
	var backup bytes.Buffer
	report, err := api.BackupStore(s.ctx, admin, &backup)
	wantOK(t, err, "BackupStore")
	if backup.Len() == 0 || report.Rows["namespaces"] != 2 || report.Rows["keys"] != 1 || report.Rows["versions"] != 1 ||
		report.Revision == 0 || report.StoreID == "" {
		t.Fatalf("BackupStore wrote %d bytes and returned %+v", backup.Len(), report)
	}
	_, err = restore(backup.String(), "a test")
	wantError(t, err, kms.ErrStoreNotEmpty, "RestoreStore into a store with keys")
	s.mustEncrypt(name, "still here", kms.Binding{})
}

func testOrphans(t *testing.T, s *suite) {
	s.mustCreate("orders", kms.ProfileDerived)
	orphans, err := s.Admin.API.ListOrphans(s.ctx, s.Admin.Principal)
	wantOK(t, err, "ListOrphans")
	if len(orphans) != 0 {
		t.Fatalf("orphans of a new service: %+v", orphans)
	}
	schedule := func(r *kms.OrphanDestructionRequest) error {
		_, err := s.Admin.API.ScheduleOrphanDestruction(s.ctx, s.Admin.Principal, r)
		return err
	}
	wantOK(t, schedule(&kms.OrphanDestructionRequest{Reason: "tidy up"}), "ScheduleOrphanDestruction of none")
	wantViolation(t, schedule(&kms.OrphanDestructionRequest{}), "reason", "ScheduleOrphanDestruction for no reason")
	wantViolation(t, schedule(&kms.OrphanDestructionRequest{Reason: "r", Window: time.Minute}), "window",
		"ScheduleOrphanDestruction too soon")
	version := s.mustGetVersion(s.key("orders").Version(1))
	wantViolation(t, schedule(&kms.OrphanDestructionRequest{Reason: "r", UIDs: []hsm.UID{version.UID}}), "uids[0]",
		"ScheduleOrphanDestruction of an object that is needed")
}
