package pkcs11hsm_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
)

// TestSwitchWhileUsed: keys whose usage is switched off and on while they are used and searched
// for are there afterwards, and every switch is made. (SoftHSM2 empties an object's file before it
// writes what it has of it in memory, which who reads the file meanwhile makes it forget.)
func TestSwitchWhileUsed(t *testing.T) {
	for _, lanes := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d lanes", lanes), func(t *testing.T) {
			r := newRig(t, func(c *pkcs11hsm.Config) { c.Lanes = lanes })
			done := make(chan struct{})
			var users sync.WaitGroup
			use := func(call func() error) {
				users.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						if err := call(); err != nil && !errors.Is(err, hsm.ErrKeyNotPermitted) {
							t.Errorf("used: %v", err)
							return
						}
					}
				})
			}
			for range 2 {
				use(func() error {
					_, err := r.token.Sign(t.Context(), r.p256, hsm.ECDSA, make([]byte, 32))
					return err
				})
				use(func() error {
					_, err := r.token.MAC(t.Context(), r.mac, []byte("message"))
					return err
				})
				use(func() error {
					return r.token.EncryptBlocks(t.Context(), r.blocks, make([]byte, 32), make([]byte, 32))
				})
			}
			use(func() error {
				_, err := r.token.Key(t.Context(), r.gcm)
				return err
			})
			for i := range 40 {
				for _, uid := range []hsm.UID{r.p256, r.mac, r.blocks} {
					for _, usable := range []bool{false, true} {
						if err := r.token.SetUsable(t.Context(), uid, usable); err != nil {
							t.Errorf("%s switched to %v, time %d: %v", uid, usable, i, err)
						}
					}
				}
			}
			close(done)
			users.Wait()
			for _, token := range []*pkcs11hsm.Token{r.token, r.soft.OpenWith(t, r.soft.Config())} {
				keys, err := token.Keys(t.Context())
				if err != nil || len(keys) != 4 {
					t.Fatalf("%d keys, %v", len(keys), err)
				}
			}
		})
	}
}
