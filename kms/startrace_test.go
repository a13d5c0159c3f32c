package kms_test

import (
	"context"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// busyAnchor is an anchor that other replicas share, which make a change just before it is
// first read.
type busyAnchor struct {
	*memoryAnchor

	change func()
}

func (a *busyAnchor) Read(ctx context.Context) (kms.Head, bool, error) {
	if change := a.change; change != nil {
		a.change = nil
		change()
	}
	return a.memoryAnchor.Read(ctx)
}

// A replica that starts while others make changes does not take the store for an older one
// because it had read it before them.
func TestStartWhileOthersMakeChanges(t *testing.T) {
	t.Parallel()
	anchor := &busyAnchor{memoryAnchor: new(memoryAnchor)}
	first := newSharedWorld(t, func(c *kms.Config) { c.Anchors = []kms.Anchor{anchor} })
	first.create("before", kms.ProfileDerived)
	name := keyName(t, "meanwhile")
	anchor.change = func() {
		// It is not waited for that the change spreads: the replica that starts is behind it.
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := first.service.CreateKey(ctx, admin, &kms.CreateKeyRequest{Name: name})
		wantError(t, err, kms.ErrStillSpreading, "CreateKey")
	}
	second := first.newReplica()
	if anchor.change != nil {
		t.Fatal("the anchor was not read")
	}
	if _, err := second.encrypt(name, "secret"); err != nil {
		t.Fatalf("Encrypt under the key made meanwhile: %v", err)
	}
}
