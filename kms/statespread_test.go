package kms_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// The switching off of an object and the wait for the other replicas go on side by side,
// and a revocation returns when both have ended.
func TestSwitchingAndSpreadingSideBySide(t *testing.T) {
	t.Parallel()
	for _, last := range []string{"the token", "the other replica"} {
		t.Run(last, func(t *testing.T) {
			t.Parallel()
			slow := &slowAuditor{reached: make(chan struct{}), release: make(chan struct{})}
			first := newSharedWorld(t, nil)
			name := first.create("orders", kms.ProfileDerived)
			ciphertext := first.mustEncrypt(name, "secret")
			uid := first.uid(name.Version(1))
			first.stop()
			watching, store := first.newHookedReplica(func(c *kms.Config, _ *hookedStore) { c.Replica.Lease = kms.MaxLease })
			other, _ := first.newHookedReplica(func(c *kms.Config, _ *hookedStore) {
				c.Replica.Lease = kms.MaxLease // nothing here ends because a lease does
				slow.Auditor, c.Auditor = c.Auditor, slow
			})
			used := make(chan error, 1)
			go func() {
				_, err := other.decrypt(name, ciphertext)
				used <- err
			}()
			<-slow.reached // a result is on its way, so the other replica acknowledges nothing
			gate := watching.faults.Hold(hsmtest.MethodSetUsable)
			t.Cleanup(gate.Release)

			var change *kms.StateChange
			done := make(chan error, 1)
			go func() {
				var err error
				change, err = watching.service.RevokeKeyVersion(t.Context(), admin,
					&kms.RevokeRequest{Name: name.Version(1), Reason: "leaked", DataLossAccepted: true})
				done <- err
			}()
			if err := gate.Await(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			revision := watching.service.ReplicaStatus().Revision
			other.await("the change at the other replica", func() bool { return other.service.ReplicaStatus().Revision >= revision })
			if last == "the token" {
				close(slow.release)
				watching.await("the acknowledgement, read by who waits", func() bool { return store.allShown(revision) })
			} else {
				gate.Release()
				watching.await("the object switched off", func() bool { return !watching.usable(uid) })
			}
			select {
			case err := <-done:
				t.Fatalf("RevokeKeyVersion returned before %s was done: %v", last, err)
			default:
			}
			if last == "the token" {
				gate.Release()
			} else {
				close(slow.release)
			}
			if err := <-done; err != nil || len(change.Spread.Acknowledged) != 2 || change.Switch != kms.SwitchDone {
				t.Fatalf("RevokeKeyVersion: %+v, %v", change, err)
			}
			if err := <-used; err != nil {
				t.Fatalf("the result that was on its way: %v", err)
			}
			if watching.usable(uid) {
				t.Fatal("the object of a revoked version is usable")
			}
		})
	}
}

// A replica that hears of a change only when it is to note the first use of a version says
// why that version was refused, if it was named, and else that its key has no primary.
func TestFirstUseOfVersionThatWasDisabled(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{true, false} {
		t.Run(fmt.Sprintf("named %v", named), func(t *testing.T) {
			t.Parallel()
			first := newSharedWorld(t, nil)
			name := first.createKey("releases", kms.AlgorithmECP256SHA256)
			first.stop()
			lasting := func(c *kms.Config, _ *hookedStore) { c.Replica.Lease = kms.MaxLease }
			changing, _ := first.newHookedReplica(lasting)
			other, _ := first.newHookedReplica(func(c *kms.Config, store *hookedStore) {
				lasting(c, store)
				store.deaf = true
			})
			gate := changing.faults.Hold(hsmtest.MethodSetUsable)
			t.Cleanup(gate.Release)
			done := make(chan error, 1)
			go func() {
				_, err := changing.service.DisableKeyVersion(t.Context(), admin, name.Version(1), "")
				done <- err
			}()
			if err := gate.Await(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			r := &kms.SignRequest{Key: name, Message: []byte("message")}
			if named {
				r.Key, r.Version = kms.KeyName{}, name.Version(1)
			}
			_, err := other.service.Sign(t.Context(), admin, r)
			wantError(t, err, kms.ErrVersionDisabled, "Sign") // which is the cause, too, where there is no primary
			if errors.Is(err, kms.ErrNoEnabledPrimary) == named {
				t.Errorf("Sign: %v", err)
			}
			gate.Release()
			if err := <-done; err != nil {
				t.Fatalf("DisableKeyVersion: %v", err)
			}
		})
	}
}
