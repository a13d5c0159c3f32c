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

// A call that hangs while it has the turn does not keep others from the token.
func TestHeldTurn(t *testing.T) {
	proxy := buildProxy(t)
	t.Setenv("KEYHOLT_PROXY", "reset")
	r := newRigOn(t, softhsmtest.NewVia(t, proxy), func(c *pkcs11hsm.Config) { c.Sessions = 4 })
	held := bytes.Repeat([]byte{0xaa}, 32)
	want := make([]byte, 32)
	if err := r.token.EncryptBlocks(t.Context(), r.blocks, want, held); err != nil {
		t.Fatal(err)
	}
	r.tell("hold 0xaa")
	got := make([]byte, 32)
	ended := make(chan error, 1)
	r.token.TakeTurns()
	go func() { ended <- r.token.EncryptBlocks(t.Context(), r.blocks, got, held) }()
	r.waitHeld()
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
	select {
	case err := <-ended:
		t.Errorf("the call that was held ended: %v", err)
	default:
	}
	r.tell("release")
	if err := <-ended; err != nil || !bytes.Equal(got, want) {
		t.Errorf("the call that was held: %v", err)
	}
}
