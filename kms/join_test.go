package kms_test

import (
	"context"
	"strings"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/kms"
)

// failingKeys is a token that cannot list its keys.
type failingKeys struct{ hsm.Token }

func (failingKeys) Keys(context.Context) ([]hsm.Object, error) { return nil, hsm.ErrUnavailable }

// A start that fails leaves no lease row, for which the next change would wait.
func TestFailedStartLeavesNoLease(t *testing.T) {
	t.Parallel()
	first := newSharedWorld(t, nil)
	first.create("orders", kms.ProfileDerived)
	failing := map[string]struct {
		fail func(*kms.Config, *hookedStore)
		want error
	}{
		"the answer to the first transaction is lost": {
			func(_ *kms.Config, s *hookedStore) { s.fail("InsertLease") }, kms.ErrStoreUnavailable,
		},
		"the second transaction": {
			func(_ *kms.Config, s *hookedStore) { s.fail("RenewLease") }, kms.ErrStoreUnavailable,
		},
		"the lease is gone": {
			func(_ *kms.Config, s *hookedStore) {
				s.hook("RenewLease", func(context.Context) error { return &kms.Error{Sentinel: kms.ErrLeaseGone} })
			}, kms.ErrLeaseGone,
		},
		"loading": {
			func(_ *kms.Config, s *hookedStore) { s.fail("Load") }, kms.ErrStoreUnavailable,
		},
		"the anchor": {
			func(c *kms.Config, _ *hookedStore) {
				c.Anchors = []kms.Anchor{&memoryAnchor{head: kms.Head{Revision: 1000}}}
			}, kms.ErrRolledBack,
		},
		"the token": {
			func(c *kms.Config, _ *hookedStore) { c.Token = failingKeys{c.Token} }, kms.ErrTokenUnavailable,
		},
		"the self-test": {
			func(c *kms.Config, _ *hookedStore) {
				c.Token.(*hsmtest.Faults).FailBefore(hsmtest.MethodEncryptBlocks, hsm.ErrUnavailable) //nolint:errcheck,forcetypeassert // newWorld made it
			}, kms.ErrTokenUnavailable,
		},
	}
	for name, tt := range failing {
		t.Run(name, func(t *testing.T) {
			_, store, err := first.tryReplica(tt.fail)
			wantError(t, err, tt.want, "start")
			if store.calls("InsertLease") == 0 {
				t.Fatal("it has failed before it had a lease")
			}
			first.lease()
		})
	}
}

// Two replicas of one name cannot be told apart in what changes report, and Diagnose says so.
func TestReplicasOfOneName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "kms1"} {
		first := newSharedWorld(t, func(c *kms.Config) { c.Replica.Name = name + "a" })
		second, _ := first.newHookedReplica(func(c *kms.Config, _ *hookedStore) { c.Replica.Name = name + "b" })
		told := func() (f kms.Finding) {
			for _, f = range second.diagnose() {
				if f.Check == "others" {
					break
				}
			}
			return f
		}
		if f := told(); f.Severity != kms.SeverityOK {
			t.Errorf("with names of their own: %+v", f)
		}
		first.newHookedReplica(func(c *kms.Config, _ *hookedStore) { c.Replica.Name = name + "a" })
		if f := told(); f.Severity != kms.SeverityWarning || !strings.Contains(f.Detail, "several have the name "+name+"a") {
			t.Errorf("with two of one name: %+v", f)
		}
	}
}
