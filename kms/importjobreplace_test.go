package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

func (w *world) createJob(r *kms.CreateImportJobRequest) (*kms.ImportJob, error) {
	return w.service.CreateImportJob(w.t.Context(), admin, r)
}

func (w *world) jobs() []*kms.ImportJob {
	w.t.Helper()
	list, err := w.service.ListImportJobs(w.t.Context(), admin, keyName(w.t, "x").Namespace(), kms.Page{})
	if err != nil {
		w.t.Fatalf("ListImportJobs: %v", err)
	}
	return list.Jobs
}

// A job takes the place of an expired one of its name, in all replicas, and never that of an
// active one. The request that has made the expired one makes no other.
func TestExpiredImportJobsAreReplaced(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newSharedWorld(t, func(c *kms.Config) { c.Now = clock.time })
	other := w.newReplica()
	first := &kms.CreateImportJobRequest{Name: jobName(t, "nightly"), TTL: time.Hour, RequestID: uuid.NewString()}
	next := &kms.CreateImportJobRequest{Name: first.Name, TTL: time.Hour, RequestID: uuid.NewString()}
	old, err := w.createJob(first)
	if err != nil {
		t.Fatal(err)
	}
	name, key := w.create("orders", kms.ProfileDerived), randomKey(32)
	done := &kms.ImportKeyVersionRequest{Key: name, Job: old.Name, WrappedKey: wrap(t, old, key), RequestID: uuid.NewString()}
	w.mustImport(done)
	clock.advance(time.Hour - time.Microsecond)
	wantError(t, second(w.createJob(next)), kms.ErrImportJobExists, "in the place of an active job")

	// As long as the wrapping key is there, the job stays.
	w.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable)
	other.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable)
	clock.advance(time.Microsecond)
	wantError(t, second(w.createJob(next)), kms.ErrTokenUnavailable, "in the place of a job whose wrapping key stays")
	for what, r := range map[string]*world{"here": w, "in another replica": other} {
		if again, err := r.createJob(first); err != nil || again.UID != old.UID || again.State != kms.ImportJobExpired {
			t.Fatalf("the request that made the expired job, %s: %+v, %v", what, again, err)
		}
	}
	w.faults.Clear()
	other.faults.Clear()
	clock.advance(time.Minute)
	w.wakeUp(name)
	w.await("the end of the wrapping key", func() bool { return w.objects() == 2 })
	if again, err := w.createJob(first); err != nil || again.UID != old.UID || again.State != kms.ImportJobExpired {
		t.Fatalf("the request that made the expired job: %+v, %v", again, err)
	}
	changed := *first
	changed.TTL = 2 * time.Hour
	wantError(t, second(w.createJob(&changed)), kms.ErrRequestIDReused, "its request id with other fields")

	made, err := w.createJob(next)
	if err != nil || made.UID == old.UID || bytes.Equal(made.PublicKey, old.PublicKey) || made.State != kms.ImportJobActive ||
		!made.CreateTime.Equal(clock.time()) {
		t.Fatalf("CreateImportJob in the place of an expired job: %+v, %v", made, err)
	}
	check := func(r *world) {
		t.Helper()
		if list := r.jobs(); len(list) != 1 || list[0].UID != made.UID || list[0].State != kms.ImportJobActive {
			t.Fatalf("the jobs: %+v", list)
		}
		if again, err := r.createJob(next); err != nil || again.UID != made.UID {
			t.Fatalf("CreateImportJob repeated: %+v, %v", again, err)
		}
		wantError(t, second(r.createJob(first)), kms.ErrImportJobExists, "the request that made the job before")
		if n, list := r.objects(), r.orphans(); n != 3 || len(list) != 0 { // a version, an imported one, a wrapping key
			t.Fatalf("the token holds %d objects, orphans are %+v", n, list)
		}
		if result := r.mustImport(done); result.Version.Name != name.Version(2) || result.Key.VersionCount != 2 {
			t.Fatalf("an import by the job before, repeated: %+v", result.Version)
		}
	}
	check(w)
	check(other)
	again := *done
	again.RequestID = ""
	wantError(t, second(w.importKey(&again)), kms.ErrWrappedKey, "a key that was wrapped for the job before")
	w.restart()
	check(w)
	result := other.mustImport(&kms.ImportKeyVersionRequest{Key: name, Job: made.Name, WrappedKey: wrap(t, made, key)})
	if e := other.auditor.find(kms.ActionImportVersion); e.Resource != result.Version.Name.String() || e.ImportJob != made.Name {
		t.Fatalf("the record: %+v", e)
	}
}

// Callers of two replicas that race for the place of an expired job make one job.
func TestConcurrentReplacement(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newSharedWorld(t, func(c *kms.Config) { c.Now = clock.time })
	replicas := []*world{w, w.newReplica()}
	old := w.job("nightly")
	clock.advance(time.Hour)
	var running sync.WaitGroup
	made := make(chan *kms.ImportJob, 8)
	for caller := range cap(made) {
		running.Go(func() {
			job, err := replicas[caller%2].createJob(&kms.CreateImportJobRequest{Name: old.Name})
			switch {
			case err == nil:
				made <- job
			case !errors.Is(err, kms.ErrImportJobExists):
				t.Errorf("CreateImportJob: %v", err)
			}
		})
	}
	running.Wait()
	if len(made) != 1 {
		t.Fatalf("%d calls made a job", len(made))
	}
	job := <-made
	for _, r := range replicas {
		if list := r.jobs(); len(list) != 1 || list[0].UID != job.UID || r.objects() != 1 {
			t.Fatalf("the jobs: %+v; the token holds %d objects", list, r.objects())
		}
	}
}

// heldStore holds the answer to the first change of a kind.
type heldStore struct {
	kms.Store
	kind          func(*kms.Change) bool
	once          sync.Once
	reached, goOn chan struct{}
}

func (s *heldStore) Update(ctx context.Context, since kms.Revision, build func(*kms.Delta) (*kms.Change, error)) (kms.Head, error) {
	hold := false
	head, err := s.Store.Update(ctx, since, func(d *kms.Delta) (*kms.Change, error) {
		change, err := build(d)
		hold = change != nil && s.kind(change)
		return change, err
	})
	if hold {
		s.once.Do(func() {
			close(s.reached)
			<-s.goOn
		})
	}
	return head, err
}

// A replica that loses its lock after it has taken out the expired job does nothing to the
// one that another has made meanwhile.
func TestReplacementWithoutTheLock(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	var held *heldStore
	w := newSharedWorld(t, func(c *kms.Config) {
		c.Now = clock.time
		if held == nil { // the first replica's
			held = &heldStore{
				Store: c.Store, kind: func(c *kms.Change) bool { return len(c.RemoveImportJobs) == 1 },
				reached: make(chan struct{}), goOn: make(chan struct{}),
			}
			c.Store = held
		}
	})
	other := w.newReplica()
	old := w.job("nightly")
	clock.advance(time.Hour)
	create := func(w *world, done chan<- error) {
		done <- second(w.createJob(&kms.CreateImportJobRequest{Name: old.Name}))
	}
	here, there := make(chan error, 1), make(chan error, 1)
	go create(w, here)
	select {
	case <-held.reached:
	case err := <-here:
		t.Fatalf("CreateImportJob has taken out nothing: %v", err)
	}
	w.database.loseLocks()
	go create(other, there)
	other.await("the other's job", func() bool {
		list := other.jobs()
		return len(list) == 1 && list[0].UID != old.UID && list[0].State == kms.ImportJobActive
	})
	close(held.goOn)
	wantError(t, <-here, kms.ErrConflict, "the announcement of a second job")
	if err := <-there; err != nil {
		t.Fatal(err)
	}
	if list, more := w.jobs(), other.jobs(); len(list) != 1 || list[0].UID != more[0].UID || list[0].State != kms.ImportJobActive || w.objects() != 1 {
		t.Fatalf("the jobs: %+v; the token holds %d objects", list, w.objects())
	}
}

// Whatever fails while a job takes another's place, repeating the call gives one job with
// one wrapping key, at once and after a restart.
func TestReplacementSurvivesFaults(t *testing.T) {
	t.Parallel()
	var keys hsmtest.RSAKeys
	const endNotStored = "end not stored" // which the errand may be the one to find
	ends := func(c *kms.Change) bool {
		return len(c.ImportJobs) == 1 && c.ImportJobs[0].State == kms.ImportJobExpired
	}
	removes := func(c *kms.Change) bool { return len(c.RemoveImportJobs) == 1 }
	announces := func(c *kms.Change) bool {
		return len(c.ImportJobs) == 1 && c.ImportJobs[0].State == kms.ImportJobCreating
	}
	activates := func(c *kms.Change) bool {
		return len(c.ImportJobs) == 1 && c.ImportJobs[0].State == kms.ImportJobActive
	}
	for name, breakIt := range map[string]func(w *world){
		"wrapping key cannot be destroyed": func(w *world) { w.faults.FailBefore(hsmtest.MethodDestroyKey, hsm.ErrUnavailable) },
		endNotStored:                       func(w *world) { w.store.failCommitOf(ends, false) },
		"removal not stored":               func(w *world) { w.store.failCommitOf(removes, false) },
		"removal stored, answer lost":      func(w *world) { w.store.failCommitOf(removes, true) },
		"intent not stored":                func(w *world) { w.store.failCommitOf(announces, false) },
		"intent stored, answer lost":       func(w *world) { w.store.failCommitOf(announces, true) },
		"wrapping key not made":            func(w *world) { w.faults.FailBefore(hsmtest.MethodGenerateKey, hsm.ErrUnavailable, 1) },
		"activation not stored":            func(w *world) { w.store.failCommitOf(activates, false) },
		"activation stored, answer lost":   func(w *world) { w.store.failCommitOf(activates, true) },
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
				w := newWorld(t, hsmtest.MemoryConfig{RSAKeys: &keys}, func(c *kms.Config) { c.Now = clock.time })
				old := w.job("nightly")
				request := &kms.CreateImportJobRequest{Name: old.Name, TTL: 2 * time.Hour, RequestID: uuid.NewString()}
				breakIt(w)
				clock.advance(time.Hour)
				if _, err := w.createJob(request); err == nil && name != endNotStored {
					t.Fatal("the fault was not noticed")
				}
				if restart {
					w.restart()
				} else {
					w.faults.Clear()
				}
				job, err := w.createJob(request)
				if err != nil || job.State != kms.ImportJobActive || job.UID == old.UID {
					t.Fatalf("CreateImportJob repeated: %+v, %v", job, err)
				}
				if list, n := w.jobs(), w.objects(); len(list) != 1 || n != 1 {
					t.Fatalf("the jobs: %+v; the token holds %d objects", list, n)
				}
				w.restart()
				if list, orphans := w.jobs(), w.orphans(); len(list) != 1 || list[0].UID != job.UID || len(orphans) != 0 {
					t.Fatalf("the jobs after a restart: %+v; orphans: %+v", list, orphans)
				}
			})
		}
	}
}

// On disk, too, a name is one row however often it is used. A backup from before does not
// bring a job back over a newer one of its name, and of the one that it does bring back
// nothing can be made but the next.
func TestReplacedImportJobsAndBackups(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newSQLiteWorld(t, func(c *kms.Config) { c.Now = clock.time })
	w.create("orders", kms.ProfileDerived)
	old := w.job("nightly")
	backup := w.backup()
	for range 3 {
		clock.advance(time.Hour)
		w.job("nightly")
	}
	if report, err := w.service.VerifyStore(t.Context(), admin); err != nil || report.Rows["import_jobs"] != 1 || len(report.Problems) != 0 {
		t.Fatalf("VerifyStore: %+v, %v", report, err)
	}

	without := w.newStore()
	if _, err := without.restore(backup, true); err != nil {
		t.Fatal(err)
	}
	if got := without.getJob(old.Name); got.UID != old.UID || got.State != kms.ImportJobExpired {
		t.Fatalf("the job of the backup: %+v", got)
	}
	if job := without.job("nightly"); job.UID == old.UID {
		t.Fatalf("the job in the place of the one of the backup: %+v", job)
	}

	with := without.newStore()
	newer := with.job("nightly")
	if _, err := with.restore(backup, true); err != nil {
		t.Fatal(err)
	}
	with.restart()
	if list := with.jobs(); len(list) != 1 || list[0].UID != newer.UID || list[0].State != kms.ImportJobActive {
		t.Fatalf("the jobs after the restoration: %+v", list)
	}
}

// While as much is made as may be, a job cannot be made; the expired one of its name stays.
func TestNothingIsReplacedWhenOverloaded(t *testing.T) {
	t.Parallel()
	const atMost = 64 // of constructions
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	w := newSharedWorld(t, func(c *kms.Config) { c.Now = clock.time })
	name, old := w.create("orders", kms.ProfileDerived), w.job("nightly")
	clock.advance(time.Hour)
	w.wakeUp(name)
	w.await("the end of the wrapping key", func() bool { return w.objects() == 1 })
	gate := w.faults.Hold(hsmtest.MethodGenerateKey)
	ctx, goAway := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	refused := make(chan error, atMost+1)
	for i := range cap(refused) {
		asking.Go(func() {
			_, err := w.service.CreateKey(ctx, admin, &kms.CreateKeyRequest{Name: keyName(t, fmt.Sprintf("x%d", i))})
			refused <- err
		})
	}
	wantError(t, <-refused, kms.ErrOverloaded, "one key too many")
	wantError(t, second(w.createJob(&kms.CreateImportJobRequest{Name: old.Name})), kms.ErrOverloaded, "the next job")
	if list := w.jobs(); len(list) != 1 || list[0].UID != old.UID || list[0].State != kms.ImportJobExpired {
		t.Errorf("the jobs: %+v", list)
	}
	goAway()
	gate.Release()
	asking.Wait()
	if made := w.job("nightly"); made.UID == old.UID {
		t.Errorf("the job afterwards: %+v", made)
	}
}
