package pkcs11hsm

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyholt/keyholt/hsm"
)

// TestGates: a write waits for uses of the key and for searches, but not for ever, and keeps
// out both.
func TestGates(t *testing.T) {
	uid := hsm.UID{7}
	hold := map[string]func(g *objectGates) func(){
		"a use": func(g *objectGates) func() {
			g.of(uid).RLock()
			return g.of(uid).RUnlock
		},
		"a search": func(g *objectGates) func() { return g.search() },
	}
	for name, begin := range hold {
		for _, lasts := range []time.Duration{10 * time.Millisecond, time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				var g objectGates
				end := begin(&g)
				time.AfterFunc(lasts, end)
				start := time.Now()
				done, err := g.write(t.Context(), uid)
				if err != nil {
					t.Fatal(err)
				}
				waited := time.Since(start)
				if want := min(lasts, writePatience); waited < want || waited > want+writeLook {
					t.Errorf("%s that lasts %v: waited %v", name, lasts, waited)
				}
				if alone := lasts < writePatience; alone == g.of(uid).TryRLock() {
					t.Errorf("%s that lasts %v: another use may begin: %v", name, lasts, alone)
				} else if !alone {
					g.of(uid).RUnlock()
				}
				done()
				<-time.After(lasts)
				if !g.of(uid).TryLock() {
					t.Errorf("%s that lasts %v: the gate stays shut", name, lasts)
				}
			})
		}
	}
}

// TestGatesOfOthers: a write holds up nobody who uses a key of another stripe, and ends with
// its context while it waits.
func TestGatesOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g objectGates
		done, err := g.write(t.Context(), hsm.UID{7})
		if err != nil {
			t.Fatal(err)
		}
		if !g.of(hsm.UID{8}).TryRLock() {
			t.Error("another key is kept back")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := g.write(ctx, hsm.UID{8}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a write whose context ended: %v", err)
		}
		done()
	})
}
