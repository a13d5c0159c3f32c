package pkcs11hsm_test

import (
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/hsmtest"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// oneLane is a token with a lane of one thread.
func oneLane(c *pkcs11hsm.Config) { c.Lanes = 1 }

// signTwice makes one signature, and three in a batch, of digests that begin with a byte.
func (r *rig) signTwice(public crypto.PublicKey, first byte) error {
	digest := make([]byte, 32)
	digest[0] = first
	signature, err := r.token.Sign(r.Context(), r.p256, hsm.ECDSA, digest)
	if err != nil {
		return err
	}
	if !hsmtest.Verify(public, hsm.ECDSA, digest, signature) {
		return errors.New("a signature does not verify")
	}
	items := make([]hsm.SignItem, 3)
	for i := range items {
		items[i].Input = make([]byte, 32)
		items[i].Input[0], items[i].Input[1] = first, byte(i)
	}
	if err := r.token.SignBatch(r.Context(), r.p256, hsm.ECDSA, items); err != nil {
		return err
	}
	for i, item := range items {
		if item.Err != nil || !hsmtest.Verify(public, hsm.ECDSA, item.Input, item.Signature) {
			return fmt.Errorf("item %d: %w", i, item.Err)
		}
	}
	return nil
}

// signAtOnce signs twice in several goroutines, some times in each.
func (r *rig) signAtOnce(public crypto.PublicKey, callers, times int) {
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for range times {
				if err := r.signTwice(public, byte(caller)); err != nil {
					r.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// Signatures that many callers ask for at once are each their caller's own.
func TestSigningInLane(t *testing.T) {
	r := newRig(t, oneLane)
	public := r.public(r.p256)
	before := r.token.Calls().Sign
	r.token.UseLane(hsm.ECDSAP256)
	r.signAtOnce(public, 8, 3)
	if made := r.token.Calls().Sign - before; made != 8*3*4 {
		t.Errorf("%d signatures", made)
	}
	if n := r.token.LaneThreads(); n != 1 {
		t.Errorf("%d threads", n)
	}
}

// A signature that hangs in the module keeps no other from it.
func TestHungSignatureInLane(t *testing.T) {
	proxy := buildProxy(t)
	t.Setenv("KEYHOLT_PROXY", "reset")
	r := newRigOn(t, softhsmtest.NewVia(t, proxy), oneLane)
	public := r.public(r.p256)
	r.tell("hold 0xaa")
	held := make(chan error, 1)
	r.token.UseLane(hsm.ECDSAP256)
	go func() { held <- r.signTwice(public, 0xaa) }()
	r.waitHeld()
	r.signAtOnce(public, 4, 5)
	select {
	case err := <-held:
		t.Errorf("the signature that was held ended: %v", err)
	default:
	}
	r.tell("release")
	if err := <-held; err != nil {
		t.Error(err)
	}
	r.token.UseLane(hsm.ECDSAP256)
	if err := r.signTwice(public, 0xaa); err != nil {
		t.Error(err)
	}
}

// waitHeld waits until the proxy holds a call, of which the token's flags tell.
func (r *rig) waitHeld() {
	const heldFlag = 0x40000000
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

// What is lost is repaired in the lane, too.
func TestLossInLane(t *testing.T) {
	proxy := buildProxy(t)
	t.Setenv("KEYHOLT_PROXY", "reset")
	r := newRigOn(t, softhsmtest.NewVia(t, proxy), oneLane)
	public := r.public(r.p256)
	for name, code := range transient {
		for _, function := range []string{fnSignInit, fnSign} {
			r.token.UseLane(hsm.ECDSAP256)
			r.tell("fail " + function + " 1 " + code)
			if err := r.signTwice(public, 1); err != nil {
				t.Errorf("%s of function %s: %v", name, function, err)
			}
		}
	}
	if n := r.token.LaneThreads(); n != 1 {
		t.Errorf("%d threads", n)
	}
}

// A token that is closed under load answers everybody, and waits for what it has begun.
func TestCloseWithLane(t *testing.T) {
	r := newRig(t, oneLane)
	public := r.public(r.p256)
	r.token.UseLane(hsm.ECDSAP256)
	var group sync.WaitGroup
	for caller := range 8 {
		group.Go(func() {
			for {
				err := r.signTwice(public, byte(caller))
				if errors.Is(err, hsm.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	<-time.After(5 * time.Millisecond)
	if err := r.token.Close(); err != nil {
		t.Error(err)
	}
	group.Wait()
}

// Where a token turns out to allow few sessions, the anchor, crypto11's and the probe's two
// come before those of the pool, and these before those of lanes, which leave one to crypto11.
func TestLanesLeaveSessions(t *testing.T) {
	proxy := buildProxy(t)
	soft := softhsmtest.NewVia(t, proxy)
	for most, want := range map[int]struct{ sessions, lanes int }{5: {1, 0}, 6: {2, 1}, 7: {2, 2}, 8: {2, 2}} {
		for _, lanes := range []int{0, 2} {
			t.Run(fmt.Sprintf("%d allowed, %d lanes", most, lanes), func(t *testing.T) {
				t.Setenv("KEYHOLT_PROXY", fmt.Sprintf("reset\nsessions %d", most))
				cfg := soft.Config()
				cfg.Sessions, cfg.Lanes = 2, lanes
				token := soft.OpenWith(t, cfg)
				if s, l := token.Seats(); s != want.sessions || l != min(want.lanes, lanes) {
					t.Errorf("%d sessions, %d of lanes", s, l)
				}
				if _, err := token.GenerateKey(t.Context(), hsm.UID{byte(most), byte(lanes)}, "few", hsm.ECDSAP256); err != nil {
					t.Error(err)
				}
				if err := token.Close(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Of a token that allows four sessions the error says how many are needed, instead of what
// it cannot do; the log says once that it is tried again.
func TestTooFewSessions(t *testing.T) {
	soft := softhsmtest.NewVia(t, buildProxy(t))
	t.Setenv("KEYHOLT_PROXY", "reset\nsessions 4")
	var log strings.Builder
	cfg := soft.Config()
	cfg.RequireAllowedMechanisms = false
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	_, err := pkcs11hsm.Open(t.Context(), cfg)
	if !errors.Is(err, hsm.ErrUnavailable) || !strings.Contains(err.Error(), "5 are needed") {
		t.Errorf("with four: %v", err)
	}
	if n := strings.Count(log.String(), "tried again"); n != 1 {
		t.Errorf("the log says it %d times:\n%s", n, &log)
	}
}
