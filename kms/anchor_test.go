package kms_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// hangingAnchor is an anchor that can be made to hang.
type hangingAnchor struct {
	memoryAnchor
	mu   sync.Mutex
	held chan struct{} // nil: it answers at once
}

func (a *hangingAnchor) Note(ctx context.Context, head kms.Head) error {
	a.mu.Lock()
	held := a.held
	a.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return a.memoryAnchor.Note(ctx, head)
}

// hang makes it hang until it is let go.
func (a *hangingAnchor) hang() (letGo func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := make(chan struct{})
	a.held = held
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.held = nil
		close(held)
	}
}

// An anchor that hangs holds up neither the lease nor uses, and changes only for a moment;
// the newest of their revisions is noted when it answers again.
func TestAnchorThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, timed func(*kms.Config)) {
		anchor := &hangingAnchor{}
		w := newSharedWorld(t, func(c *kms.Config) {
			timed(c)
			c.Anchors = []kms.Anchor{anchor}
		})
		name := w.create("orders", kms.ProfileDerived)
		ciphertext := w.mustEncrypt(name, "secret")
		synctest.Wait()
		noted, _, _ := anchor.Read(t.Context())
		letGo := anchor.hang()
		for _, id := range []string{"second", "third"} {
			began := time.Now()
			w.create(id, kms.ProfileDerived)
			if took := time.Since(began); took != time.Second {
				t.Fatalf("CreateKey took %v", took)
			}
		}
		w.serveFor(15*time.Second, name, ciphertext)
		if now, _, _ := anchor.Read(t.Context()); now != noted {
			t.Fatalf("noted %d while it hung", now.Revision)
		}
		letGo()
		synctest.Wait()
		if now, _, _ := anchor.Read(t.Context()); now != w.database.head {
			t.Fatalf("noted %d, and the store is at %d", now.Revision, w.database.head.Revision)
		}
	})
}

// The end of a service waits for an anchor that hangs, but not for ever, and gives up the
// lease before.
func TestCloseWhileAnAnchorHangs(t *testing.T) {
	bubble(t, func(t *testing.T, timed func(*kms.Config)) {
		anchor := &hangingAnchor{}
		w := newSharedWorld(t, func(c *kms.Config) {
			timed(c)
			c.Anchors = []kms.Anchor{anchor}
		})
		defer anchor.hang()()
		w.create("orders", kms.ProfileDerived)
		began := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.service.Close()
		}()
		synctest.Wait()
		if rows := w.database.leaseRows(); len(rows) != 0 {
			t.Fatalf("the lease stands: %+v", rows)
		}
		<-done
		if took := time.Since(began); took > time.Second {
			t.Fatalf("Close took %v", took)
		}
		w.service = nil
	})
}
