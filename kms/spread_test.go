package kms_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// leaselessStore is a store whose lease rows can be read a few times, and then not any more.
type leaselessStore struct {
	kms.Store

	left  atomic.Int64 // readings that succeed
	asked atomic.Int64 // readings since
}

func (s *leaselessStore) Leases(ctx context.Context, confirm bool) ([]*kms.Lease, kms.Revision, error) {
	if s.left.Add(-1) < 0 {
		s.asked.Add(1)
		return nil, 0, &kms.Error{Sentinel: kms.ErrStoreUnavailable, Cause: errInjected}
	}
	return s.Store.Leases(ctx, confirm)
}

// A change that waits for a lease to expire while the store is away asks it now and then,
// and not without a pause.
func TestSpreadingWithoutTheStore(t *testing.T) {
	t.Parallel()
	store := new(leaselessStore)
	store.left.Store(1 << 40)
	w := newSharedWorld(t, func(c *kms.Config) {
		store.Store = c.Store
		c.Store = store
		c.Replica.Lease = time.Minute
	})
	name := w.create("orders", kms.ProfileDerived)
	dead := &kms.Lease{ID: "dead/1", Counter: 1, Duration: 100 * time.Millisecond, Replica: "dead"}
	if _, err := w.store.InsertLease(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	store.left.Store(1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := w.service.DisableKeyVersion(ctx, admin, name.Version(1), "test")
	wantError(t, err, kms.ErrStillSpreading, "DisableKeyVersion")
	if asked := store.asked.Load(); asked > 200 {
		t.Errorf("the store was asked %d times within a second", asked)
	}
	store.left.Store(1 << 40)
	change, err := w.service.DisableKeyVersion(t.Context(), admin, name.Version(1), "test")
	if err != nil || len(change.Spread.Expired) != 1 {
		t.Fatalf("DisableKeyVersion repeated: %+v, %v", change, err)
	}
}

// A replica whose token hangs while it notes a change there acknowledges the change all the
// same, and keeps its lease.
func TestAcknowledgingDoesNotWaitForTheToken(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	name := first.create("orders", kms.ProfileDerived)
	first.config = func(c *kms.Config) {
		c.Replica.Lease = kms.MaxLease
		c.Anchors = []kms.Anchor{kms.NewTokenAnchor(c.Token, c.Store.ID())}
	}
	second := first.newReplica()
	gate := second.faults.Hold(hsmtest.MethodSetLabel)
	defer gate.Release()
	for _, change := range []func(context.Context, kms.Principal, kms.VersionName, string) (*kms.StateChange, error){
		first.service.DisableKeyVersion, first.service.EnableKeyVersion,
	} {
		change, err := change(t.Context(), admin, name.Version(1), "test")
		if err != nil || len(change.Spread.Acknowledged) != 2 {
			t.Fatalf("a change while the other replica's token hangs: %+v, %v", change, err)
		}
		if err := gate.Await(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
}

// A call that is repeated because its caller could not wait long enough waits for what is
// left, also when the store has gone on meanwhile: so it ends, however short its deadlines.
func TestRepeatedCallsWaitForWhatIsLeft(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t, func(c *kms.Config) { c.Replica.Lease = kms.MaxLease })
	name, other := w.create("orders", kms.ProfileDerived), w.create("cards", kms.ProfileDerived)
	requestID := "6f1d1ab5-3c6e-4a55-9f0e-3d7c6a1f0b11"
	for what, call := range map[string]func(context.Context) (kms.Spread, error){
		"RevokeKeyVersion": func(ctx context.Context) (kms.Spread, error) {
			change, err := w.service.RevokeKeyVersion(ctx, admin, &kms.RevokeRequest{Name: name.Version(1), Reason: "leaked"})
			if err != nil {
				return kms.Spread{}, err
			}
			return change.Spread, nil
		},
		"RotateKey": func(ctx context.Context) (kms.Spread, error) {
			rotated, err := w.service.RotateKey(ctx, admin, &kms.RotateKeyRequest{Name: name, RequestID: requestID})
			if err != nil {
				return kms.Spread{}, err
			}
			return rotated.Spread, nil
		},
	} {
		dead := &kms.Lease{ID: "dead/" + map[bool]string{true: "1", false: "2"}[what == "RotateKey"], Counter: 1, Duration: 3 * time.Second, Replica: "dead"}
		if _, err := w.store.InsertLease(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		spreading := 0
		for {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // less than the dead lease
			spread, err := call(ctx)
			cancel()
			if err == nil {
				if len(spread.Expired) != 1 || spreading == 0 {
					t.Fatalf("%s, after %d calls: %+v", what, spreading, spread)
				}
				break
			}
			if errors.Is(err, kms.ErrStillSpreading) {
				spreading++
			}
			if spreading > 20 {
				t.Fatalf("%s has not ended after %d calls", what, spreading)
			}
			w.wakeUp(other)
		}
	}
}
