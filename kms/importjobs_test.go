package kms_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

func (w *world) getJob(name kms.ImportJobName) *kms.ImportJob {
	w.t.Helper()
	job, err := w.service.GetImportJob(w.t.Context(), admin, name)
	if err != nil {
		w.t.Fatalf("GetImportJob: %v", err)
	}
	return job
}

// A job is made, repeated, found, listed page by page, and known to other replicas.
func TestImportJobs(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, nil)
	other := w.newReplica()
	r := &kms.CreateImportJobRequest{Name: jobName(t, "b"), Method: kms.ImportRSA3072SHA1, RequestID: uuid.NewString()}
	job, err := w.service.CreateImportJob(t.Context(), admin, r)
	if err != nil {
		t.Fatal(err)
	}
	if job.State != kms.ImportJobActive || job.Method != kms.ImportRSA3072SHA1 || job.CreatedBy != admin.Name ||
		job.ExpireTime.Sub(job.CreateTime) != kms.DefaultImportJobTTL || job.Attributes.Local != hsm.ReportedTrue {
		t.Fatalf("CreateImportJob: %+v", job)
	}
	if _, err := hsm.ParsePublicKey(hsm.RSA3072Import, job.PublicKey); err != nil {
		t.Fatal(err)
	}
	if e := w.auditor.find(kms.ActionCreateImportJob); e.Resource != r.Name.String() || e.Spread == nil {
		t.Fatalf("the record: %+v", e)
	}
	if again, err := other.service.CreateImportJob(t.Context(), admin, r); err != nil || again.UID != job.UID {
		t.Fatalf("CreateImportJob repeated by another replica: %+v, %v", again, err)
	}
	changed := *r
	changed.TTL = time.Hour
	wantError(t, second(w.service.CreateImportJob(t.Context(), admin, &changed)), kms.ErrRequestIDReused, "other fields")
	changed.RequestID = ""
	wantError(t, second(w.service.CreateImportJob(t.Context(), admin, &changed)), kms.ErrImportJobExists, "the same name")

	for _, id := range []string{"a", "c"} {
		w.job(id)
	}
	var listed []string
	page := kms.Page{Size: 2}
	for {
		list, err := other.service.ListImportJobs(t.Context(), admin, r.Name.Namespace(), page)
		if err != nil {
			t.Fatal(err)
		}
		for _, job := range list.Jobs {
			listed = append(listed, job.Name.ID())
		}
		if page.Token = list.NextToken; page.Token == "" {
			break
		}
	}
	if fmt.Sprint(listed) != "[a b c]" {
		t.Fatalf("ListImportJobs: %v", listed)
	}

	elsewhere, err := kms.NewNamespaceName("elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	nowhere, err := kms.NewImportJobName(elsewhere, "a")
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]struct{ err, want error }{
		"no name":        {second(w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{})), kms.ErrInvalidRequest},
		"unknown method": {second(w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{Name: jobName(t, "d"), Method: 9})), kms.ErrInvalidRequest},
		"too long": {second(w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{
			Name: jobName(t, "d"), TTL: kms.MaxImportJobTTL + 1,
		})), kms.ErrInvalidRequest},
		"too short": {second(w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{
			Name: jobName(t, "d"), TTL: kms.MinImportJobTTL - 1,
		})), kms.ErrInvalidRequest},
		"no UUID":              {second(w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{Name: jobName(t, "d"), RequestID: "1"})), kms.ErrInvalidRequest},
		"unknown namespace":    {second(w.service.CreateImportJob(t.Context(), admin, &kms.CreateImportJobRequest{Name: nowhere})), kms.ErrNamespaceNotFound},
		"unknown job":          {second(w.service.GetImportJob(t.Context(), admin, jobName(t, "d"))), kms.ErrImportJobNotFound},
		"list of no namespace": {second(w.service.ListImportJobs(t.Context(), admin, elsewhere, kms.Page{})), kms.ErrNamespaceNotFound},
		"list from nowhere":    {second(w.service.ListImportJobs(t.Context(), admin, r.Name.Namespace(), kms.Page{Token: "x"})), kms.ErrInvalidRequest},
	} {
		if !errors.Is(got.err, got.want) {
			t.Errorf("%s: %v, want %q", what, got.err, got.want)
		}
	}
}

// From its time on a job imports nothing, and its wrapping key is destroyed, by one replica;
// the row stays.
func TestImportJobsExpire(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newSharedWorld(t, func(c *kms.Config) { c.Now = clock.time })
	other := w.newReplica()
	name, job := w.create("orders", kms.ProfileDerived), w.job("laptop")
	r := &kms.ImportKeyVersionRequest{Key: name, Job: job.Name, WrappedKey: wrap(t, job, randomKey(32)), RequestID: uuid.NewString()}
	w.mustImport(r)
	clock.advance(time.Hour - time.Microsecond)
	if got := w.getJob(job.Name); got.State != kms.ImportJobActive {
		t.Fatalf("the job in its last moment: %+v", got)
	}
	w.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable)
	other.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable)
	clock.advance(time.Microsecond)
	w.wakeUp(name)
	if got := w.getJob(job.Name); got.State != kms.ImportJobExpired {
		t.Fatalf("the job whose time has passed: %+v", got)
	}
	if result := w.mustImport(r); result.Version.Name != name.Version(2) {
		t.Fatalf("an import repeated after the job has expired: %+v", result.Version)
	}
	again := *r
	again.RequestID = ""
	wantError(t, second(w.importKey(&again)), kms.ErrImportJobExpired, "an import by an expired job")
	if e := w.auditor.find(kms.ActionImportVersion); e.ImportJob != job.Name || e.Err == nil {
		t.Fatalf("the record: %+v", e)
	}
	if _, err := w.getJob(job.Name).Wrap(randomKey(32)); !errors.Is(err, kms.ErrInvalidRequest) {
		t.Fatalf("a key was wrapped for an expired job: %v", err)
	}
	w.await("a failure", func() bool {
		return w.auditor.find(kms.ActionExpireImportJob).Err != nil || other.auditor.find(kms.ActionExpireImportJob).Err != nil
	})

	w.faults.Clear()
	other.faults.Clear()
	clock.advance(time.Minute)
	w.wakeUp(name)
	w.await("the destruction", func() bool { return w.objects() == 2 })
	w.await("the record", func() bool {
		for _, e := range []kms.Event{w.auditor.find(kms.ActionExpireImportJob), other.auditor.find(kms.ActionExpireImportJob)} {
			if e.Action != "" && e.Err == nil && e.Principal.Method == kms.MethodSystem && e.Resource == job.Name.String() {
				return true
			}
		}
		return false
	})
	w.restart()
	if got := w.getJob(job.Name); got.State != kms.ImportJobExpired || len(w.orphans()) != 0 {
		t.Fatalf("after a restart: %+v", got)
	}
	wantError(t, second(w.importKey(&again)), kms.ErrImportJobExpired, "an import after a restart")
}

// Whatever fails while a job is made, repeating the call gives one job with one wrapping
// key, at once and after a restart.
func TestCreateImportJobSurvivesFaults(t *testing.T) {
	t.Parallel()
	var keys hsmtest.RSAKeys
	for name, breakIt := range breaks {
		if name == "check value fails" {
			name, breakIt = "public key is not told", func(w *world) { w.faults.FailBefore(hsmtest.MethodPublicKey, hsm.ErrUnavailable, 1) }
		}
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, hsmtest.MemoryConfig{RSAKeys: &keys}, nil)
				request := &kms.CreateImportJobRequest{Name: jobName(t, "laptop"), RequestID: uuid.NewString()}
				breakIt(w)
				if _, err := w.service.CreateImportJob(t.Context(), admin, request); err == nil {
					t.Fatal("the fault was not noticed")
				}
				if restart {
					w.restart()
				} else {
					w.faults.Clear()
				}
				job, err := w.service.CreateImportJob(t.Context(), admin, request)
				if err != nil || job.State != kms.ImportJobActive {
					t.Fatalf("CreateImportJob repeated: %+v, %v", job, err)
				}
				if n := w.objects(); n != 1 {
					t.Fatalf("the token holds %d objects", n)
				}
				w.restart()
				w.mustImport(&kms.ImportKeyVersionRequest{
					Key: keyName(t, "orders"), New: &kms.NewKey{}, Job: job.Name, WrappedKey: wrap(t, job, randomKey(32)),
				})
			})
		}
	}
}

// The same for an import.
func TestImportSurvivesFaults(t *testing.T) {
	t.Parallel()
	var keys hsmtest.RSAKeys
	for name, breakIt := range breaks {
		for _, intoNew := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, new=%v", name, intoNew), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, hsmtest.MemoryConfig{RSAKeys: &keys}, nil)
				job, key, versions := w.job("laptop"), keyName(t, "orders"), 1
				request := &kms.ImportKeyVersionRequest{
					Key: key, Job: job.Name, WrappedKey: wrap(t, job, randomKey(32)), RequestID: uuid.NewString(),
				}
				if intoNew {
					request.New = &kms.NewKey{}
				} else {
					w.create("orders", kms.ProfileDerived)
					request.MakePrimary, versions = true, 2
				}
				breakIt(w)
				w.faults.FailAfter(hsmtest.MethodUnwrapKey, hsm.ErrUnavailable, 1) // instead of GenerateKey
				if _, err := w.importKey(request); err == nil {
					t.Fatal("the fault was not noticed")
				}
				w.restart()
				result, err := w.importKey(request)
				if err != nil || result.Key.VersionCount != versions || int(result.Key.Primary) != versions || !result.Version.Imported {
					t.Fatalf("ImportKeyVersion repeated: %+v, %v", result, err)
				}
				if n := w.objects(); n != versions+1 {
					t.Fatalf("the token holds %d objects", n)
				}
				w.mustEncrypt(key, "x")
			})
		}
	}
}

// A wrapping key that is not the one that was made for the job, or is not there, imports
// nothing; who wrapped a key for the job's public key has given it to nobody.
func TestExchangedWrappingKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	job := w.job("laptop")
	r := &kms.ImportKeyVersionRequest{
		Key: keyName(t, "orders"), New: &kms.NewKey{}, Job: job.Name, WrappedKey: wrap(t, job, randomKey(32)),
	}
	token := w.memory.Open()
	for what, spec := range map[string]hsm.KeySpec{"missing": 0, "another's": hsm.RSA3072Import, "of another kind": hsm.RSA4096Import} {
		if err := token.DestroyKey(t.Context(), job.UID); err != nil && !errors.Is(err, hsm.ErrKeyNotFound) {
			t.Fatal(err)
		}
		if spec != 0 {
			if _, err := token.GenerateKey(t.Context(), job.UID, "keyholt:x:1", spec); err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, second(w.importKey(r)), kms.ErrImportJobUnavailable, what)
	}
}

// Wrapping keys are no orphans while their job lasts, and jobs come back with a backup.
func TestImportJobsAndTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, hsmtest.MemoryConfig{}, nil)
	w.create("orders", kms.ProfileDerived)
	job := w.job("laptop")
	if list := w.orphans(); len(list) != 0 {
		t.Fatalf("orphans: %+v", list)
	}
	backup := w.backup()
	restored := w.newStore()
	report, err := restored.restore(backup, true)
	if err != nil || report.Rows["import_jobs"] != 1 || len(report.Problems) != 0 {
		t.Fatalf("RestoreStore: %+v, %v", report, err)
	}
	got := restored.getJob(job.Name)
	restored.mustImport(&kms.ImportKeyVersionRequest{
		Key: keyName(t, "imported"), New: &kms.NewKey{}, Job: got.Name, WrappedKey: wrap(t, got, randomKey(32)),
	})
}
