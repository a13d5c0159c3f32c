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
				done, err := g.of(uid).write(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				waited := time.Since(start)
				if want := min(lasts, gatePatience); waited < want || waited > want+gateLook {
					t.Errorf("%s that lasts %v: waited %v", name, lasts, waited)
				}
				if alone := lasts < gatePatience; alone == g.of(uid).TryRLock() {
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
		done, err := g.of(hsm.UID{7}).write(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !g.of(hsm.UID{8}).TryRLock() {
			t.Error("another key is kept back")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := g.of(hsm.UID{8}).write(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a write whose context ended: %v", err)
		}
		done()
	})
}

// TestGatesOfHungWrite: a write that never ends holds up uses of its key and searches for a
// while, and no longer; a use ends with its context.
func TestGatesOfHungWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g objectGates
		gate := g.of(hsm.UID{7})
		if _, err := gate.write(t.Context()); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if held, err := gate.use(t.Context()); held || err != nil || time.Since(start) != gatePatience {
			t.Errorf("a use: %v, %v, after %v", held, err, time.Since(start))
		}
		start = time.Now()
		g.search()()
		if waited := time.Since(start); waited != gatePatience {
			t.Errorf("a search waited %v", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := gate.use(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a use whose context ended: %v", err)
		}
		if gate.TryRLock() || !g.of(hsm.UID{8}).TryLock() {
			t.Error("who did not have a gate has given one back")
		}
	})
}
