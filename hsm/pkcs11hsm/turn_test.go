package pkcs11hsm_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// heldFlag is what the proxy adds to the token's flags while it holds a call.
const heldFlag = 0x40000000

// waitHeld waits until the proxy holds a call.
func (r *rig) waitHeld() {
	r.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		info, err := r.token.Raw().GetTokenInfo(r.token.Slot())
		if err != nil {
			r.Fatal(err)
		}
		if info.Flags&heldFlag != 0 {
			return
		}
		<-tick.C
	}
}

// holdTurn has a call hang that has the turn, and returns what ends it and checks what it made.
func (r *rig) holdTurn() (release func()) {
	r.Helper()
	held := bytes.Repeat([]byte{0xaa}, 32)
	want := make([]byte, 32)
	if err := r.token.EncryptBlocks(r.Context(), r.blocks, want, held); err != nil {
		r.Fatal(err)
	}
	r.tell("hold 0xaa")
	got := make([]byte, 32)
	ended := make(chan error, 1)
	r.token.TakeTurns()
	go func() { ended <- r.token.EncryptBlocks(r.Context(), r.blocks, got, held) }()
	r.waitHeld()
	return func() {
		r.Helper()
		select {
		case err := <-ended:
			r.Errorf("the call that was held ended: %v", err)
		default:
		}
		r.tell("release")
		if err := <-ended; err != nil || !bytes.Equal(got, want) {
			r.Errorf("the call that was held: %v", err)
		}
	}
}

// A call that hangs while it has the turn does not keep others from the token.
func TestHeldTurn(t *testing.T) {
	proxy := buildProxy(t)
	t.Setenv("KEYHOLT_PROXY", "reset")
	r := newRigOn(t, softhsmtest.NewVia(t, proxy), func(c *pkcs11hsm.Config) { c.Sessions = 4 })
	release := r.holdTurn()
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			for range 20 {
				r.token.TakeTurns() // though waiting was long
				dst := make([]byte, 32)
				err := r.token.EncryptBlocks(t.Context(), r.blocks, dst, make([]byte, 32))
				if err != nil || !bytes.Equal(dst, r.want) {
					t.Errorf("beside a call that hangs: %v", err)
				}
			}
		})
	}
	others.Wait()
	release()
}

// While a call that hangs has the turn others wait for it now and then, and not again and again.
func TestWaitsForHeldTurn(t *testing.T) {
	proxy := buildProxy(t)
	t.Setenv("KEYHOLT_PROXY", "reset")
	r := newRigOn(t, softhsmtest.NewVia(t, proxy), func(c *pkcs11hsm.Config) { c.Sessions = 2 })
	release := r.holdTurn()
	const calls = 200
	waited := 0
	for range calls {
		r.token.TakeTurns() // though waiting was long
		begin := time.Now()
		if err := encrypt(t, r.token, r.blocks); err != nil {
			t.Fatal(err)
		}
		if time.Since(begin) >= pkcs11hsm.LongestTurnWait {
			waited++
		}
	}
	if waited == calls {
		t.Errorf("all of %d calls waited for the turn", calls)
	}
	release()
}
