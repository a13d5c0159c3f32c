package kms_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// Of several replicas one makes a rotation that is due, and a key that is overdue by many
// periods is rotated once.
func TestOneReplicaRotates(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	first := newSharedWorld(t, func(c *kms.Config) { c.Now = clock.time })
	replicas := []*world{first, first.newReplica(), first.newReplica()}
	name := keyName(t, "orders")
	if _, err := first.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: name, RotationPeriod: time.Hour}); err != nil {
		t.Fatal(err)
	}
	other := first.create("other", kms.ProfileDerived)
	done := func() (n uint64) {
		for _, w := range replicas {
			n += w.service.Schedule().Rotations
		}
		return n
	}
	for round := range uint32(3) {
		clock.advance(100 * time.Hour)
		first.wakeUp(other)
		for _, w := range replicas {
			w.awaitPrimary(name, round+2)
			w.wakeUp(other)
		}
		first.await("the count", func() bool { return done() == uint64(round+1) })
	}
	for _, w := range replicas {
		w.restart()
	}
	if key, err := first.service.GetKey(t.Context(), admin, name); err != nil || key.Primary != 4 {
		t.Fatalf("the primary is %d after 3 times, error %v", key.Primary, err)
	}
	recorded := 0
	for _, w := range replicas {
		for _, e := range w.auditor.all() {
			if e.Action == kms.ActionRotateKey && e.Err == nil && e.Spread != nil && len(e.Spread.Acknowledged) == 3 {
				recorded++
			}
		}
	}
	if recorded != 3 {
		t.Fatalf("%d rotations are recorded", recorded)
	}
}

// A replica that waits for the lock while another makes the rotation that is due makes
// none after it.
func TestRotationIsDueOnce(t *testing.T) {
	t.Parallel()
	clock := &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	first := newSharedWorld(t, func(c *kms.Config) { c.Now = clock.time })
	second := first.newReplica()
	name := keyName(t, "orders")
	if _, err := first.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: name, RotationPeriod: time.Hour}); err != nil {
		t.Fatal(err)
	}
	other := first.create("other", kms.ProfileDerived)
	gates := []*hsmtest.Gate{first.faults.Hold(hsmtest.MethodGenerateKey), second.faults.Hold(hsmtest.MethodGenerateKey)}
	clock.advance(2 * time.Hour)
	first.wakeUp(other)
	first.await("a replica that waits for the other", func() bool { return first.database.waiting.Load() == 1 })
	for _, gate := range gates {
		gate.Release()
	}
	first.awaitPrimary(name, 2)
	first.await("the end of the wait", func() bool { return first.database.waiting.Load() == 0 })
	unlock, err := (&memoryStore{db: first.database}).Lock(t.Context(), "key/"+name.String()) // after the one that waited
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if key, err := first.service.GetKey(t.Context(), admin, name); err != nil || key.Primary != 2 {
		t.Fatalf("the primary is %d, error %v", key.Primary, err)
	}
}

// A rotation that fails is tried again, at growing distances, and counted.
func TestScheduledRotationFails(t *testing.T) {
	t.Parallel()
	w, clock := newClockedWorld(t)
	name := keyName(t, "orders")
	if _, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: name, RotationPeriod: time.Hour}); err != nil {
		t.Fatal(err)
	}
	other := w.create("other", kms.ProfileDerived)
	w.faults.FailBefore(hsmtest.MethodGenerateKey, hsm.ErrUnavailable)
	clock.advance(2 * time.Hour)
	for n := range uint64(3) {
		w.wakeUp(other)
		w.await("a failure", func() bool { return w.service.Schedule().RotationsFailed == n+1 })
		clock.advance(time.Minute)
	}
	w.faults.Clear()
	w.wakeUp(other)
	w.awaitPrimary(name, 2)
	if n := w.objects(); n != 3 {
		t.Fatalf("the token holds %d objects", n)
	}
}

// Replicas that are asked to rotate and to create at the same time make one version each
// call, and the calls' results name different versions.
func TestReplicasRotateTogether(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	replicas := []*world{first, first.newReplica(), first.newReplica()}
	name := first.create("orders", kms.ProfileDerived)
	var mu sync.Mutex
	made := make(map[uint32]bool)
	var created int
	var running sync.WaitGroup
	for _, w := range replicas {
		running.Go(func() {
			for range 10 {
				r, err := w.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name})
				if err != nil {
					t.Errorf("RotateKey: %v", err)
					continue
				}
				mu.Lock()
				made[r.Version.Name.Number()] = true
				mu.Unlock()
			}
			_, err := w.service.CreateKey(t.Context(), admin, &kms.CreateKeyRequest{Name: keyName(t, "second")})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				created++
			case !errors.Is(err, kms.ErrKeyExists):
				t.Errorf("CreateKey: %v", err)
			}
		})
	}
	running.Wait()
	if len(made) != 30 || created != 1 {
		t.Fatalf("30 rotations made %d versions, 3 creations %d keys", len(made), created)
	}
	for _, w := range replicas {
		key, err := w.service.GetKey(t.Context(), admin, name)
		if err != nil || key.VersionCount != 31 || key.Primary != 31 {
			t.Fatalf("%+v, %v", key, err)
		}
	}
}

// What one replica has made is there for another as soon as the call has returned: keys,
// primaries, and states.
func TestChangesHoldAtOtherReplicas(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	second := first.newReplica()
	for round := range 20 {
		name := first.create(uuid.NewString(), kms.ProfileDerived)
		old := second.mustEncrypt(name, "x")
		r, err := first.service.RotateKey(t.Context(), admin, &kms.RotateKeyRequest{Name: name})
		if err != nil || len(r.Spread.Acknowledged) != 2 {
			t.Fatalf("RotateKey: %+v, %v", r, err)
		}
		made, err := second.service.Encrypt(t.Context(), admin, &kms.EncryptRequest{Key: name, Plaintext: kms.Secret("y")})
		if err != nil || made.Version != r.Version.Name {
			t.Fatalf("round %d: after the rotation to %s a ciphertext of %s, error %v", round, r.Version.Name, made.Version, err)
		}
		if _, err := first.service.RevokeKeyVersion(t.Context(), admin,
			&kms.RevokeRequest{Name: name.Version(1), Reason: "r", DataLossAccepted: true}); err != nil {
			t.Fatal(err)
		}
		_, err = second.decrypt(name, old)
		wantError(t, err, kms.ErrVersionRevoked, "Decrypt at the other replica")
	}
}

// A change of a version that hangs in the token does not keep another replica from
// stopping the version's use, and does not undo that when it goes on.
func TestStopDoesNotWaitForAHangingChange(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	second := first.newReplica()
	name := first.create("orders", kms.ProfileDerived)
	v := name.Version(1)
	if _, err := first.service.DisableKeyVersion(t.Context(), admin, v, ""); err != nil {
		t.Fatal(err)
	}
	gate := first.faults.Hold(hsmtest.MethodSetUsable)
	done := make(chan error, 1)
	go func() {
		_, err := first.service.EnableKeyVersion(t.Context(), admin, v, "")
		done <- err
	}()
	if err := gate.Await(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := second.service.RevokeKeyVersion(t.Context(), admin, &kms.RevokeRequest{Name: v, Reason: "leaked"}); err != nil {
		t.Fatalf("RevokeKeyVersion: %v", err)
	}
	gate.Release()
	wantError(t, <-done, kms.ErrTransition, "EnableKeyVersion that hung")
	if object, err := first.faults.Key(t.Context(), first.uid(v)); err != nil || object.Usable {
		t.Fatalf("the object of a revoked version is usable: %v, %v", object.Usable, err)
	}
}

// An operator who enables a version again whose object was switched off from outside makes
// it available at all replicas.
func TestEnableRepairsAtAllReplicas(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	name := first.create("orders", kms.ProfileDerived)
	ciphertext := first.mustEncrypt(name, "secret")
	if err := first.memory.TamperUsable(first.uid(name.Version(1)), false); err != nil {
		t.Fatal(err)
	}
	second := first.newReplica()
	_, err := second.decrypt(name, ciphertext)
	wantError(t, err, kms.ErrVersionUnavailable, "Decrypt")
	if _, err := first.service.EnableKeyVersion(t.Context(), admin, name.Version(1), "checked"); err != nil {
		t.Fatal(err)
	}
	if got, err := second.decrypt(name, ciphertext); err != nil || got != "secret" {
		t.Fatalf("after enabling: %q, %v", got, err)
	}
}

// slowAuditor holds up the records of uses until it is released.
type slowAuditor struct {
	kms.Auditor
	reached, release chan struct{}
}

func (a *slowAuditor) Record(ctx context.Context, e *kms.Event) error {
	if e.Action == kms.ActionDecrypt {
		a.reached <- struct{}{}
		<-a.release
	}
	return a.Auditor.Record(ctx, e)
}

// A revocation whose caller has no time to wait for a replica that still hands over a
// result says so, holds all the same, and waits when it is repeated.
func TestRevocationThatStillSpreads(t *testing.T) {
	t.Parallel()
	slow := &slowAuditor{reached: make(chan struct{}), release: make(chan struct{})}
	first := newSharedWorld(t, nil)
	name := first.create("orders", kms.ProfileDerived)
	ciphertext := first.mustEncrypt(name, "secret")
	first.config = func(c *kms.Config) {
		slow.Auditor = c.Auditor
		c.Auditor = slow
	}
	second := first.newReplica()
	done := make(chan error, 1)
	go func() {
		_, err := second.decrypt(name, ciphertext)
		done <- err
	}()
	<-slow.reached
	request := &kms.RevokeRequest{Name: name.Version(1), Reason: "leaked", DataLossAccepted: true}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := first.service.RevokeKeyVersion(ctx, admin, request)
	wantError(t, err, kms.ErrStillSpreading, "RevokeKeyVersion")
	if e := first.auditor.find(kms.ActionRevokeVersion); e.Spread == nil || len(e.Spread.Acknowledged) != 1 || e.Spread.Revision == 0 {
		t.Fatalf("the record: %+v", e)
	}
	_, err = first.decrypt(name, ciphertext)
	wantError(t, err, kms.ErrVersionRevoked, "Decrypt")
	if object, err := first.faults.Key(t.Context(), first.uid(name.Version(1))); err != nil || object.Usable {
		t.Fatalf("the object is usable: %v, %v", object.Usable, err)
	}
	close(slow.release)
	if err := <-done; err != nil {
		t.Fatalf("the result that was on its way: %v", err)
	}
	change, err := first.service.RevokeKeyVersion(t.Context(), admin, request)
	if err != nil || len(change.Spread.Acknowledged) != 2 {
		t.Fatalf("RevokeKeyVersion repeated: %+v, %v", change, err)
	}
}

// all returns the events so far.
func (r *recorder) all() []kms.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]kms.Event(nil), r.events...)
}
