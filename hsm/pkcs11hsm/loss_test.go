package pkcs11hsm_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

// rig is an open token with a key of each kind and what they computed at first.
type rig struct {
	*testing.T
	soft   *softhsmtest.Token
	token  *pkcs11hsm.Token
	blocks hsm.UID
	gcm    hsm.UID
	p256   hsm.UID
	mac    hsm.UID
	tag    []byte // of "message" under mac
	want   []byte // 32 zero bytes under blocks
	sealed hsm.SealItem
	next   byte
}

func newRig(t *testing.T, change func(*pkcs11hsm.Config)) *rig {
	t.Helper()
	return newRigOn(t, softhsmtest.New(t), change)
}

func newRigOn(t *testing.T, soft *softhsmtest.Token, change func(*pkcs11hsm.Config)) *rig {
	t.Helper()
	cfg := soft.Config()
	if change != nil {
		change(&cfg)
	}
	r := &rig{T: t, soft: soft, token: soft.OpenWith(t, cfg), blocks: hsm.UID{1}, gcm: hsm.UID{2},
		p256: hsm.UID{3}, mac: hsm.UID{4}, next: 10}
	for uid, spec := range map[hsm.UID]hsm.KeySpec{
		r.blocks: hsm.AES256Blocks, r.gcm: hsm.AES256GCM, r.p256: hsm.ECDSAP256, r.mac: hsm.HMACSHA256,
	} {
		if _, err := r.token.GenerateKey(t.Context(), uid, "rig", spec); err != nil {
			t.Fatal(err)
		}
	}
	r.want = make([]byte, 32)
	if err := r.token.EncryptBlocks(t.Context(), r.blocks, r.want, make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	items := []hsm.SealItem{{Plaintext: []byte("plaintext"), AAD: []byte("aad")}}
	if err := errors.Join(r.token.Seal(t.Context(), r.gcm, items), items[0].Err); err != nil {
		t.Fatal(err)
	}
	r.sealed = items[0]
	var err error
	if r.tag, err = r.token.MAC(t.Context(), r.mac, []byte("message")); err != nil {
		t.Fatal(err)
	}
	return r
}

// operations are one call of each kind, each of which must give the right result.
func (r *rig) operations() map[string]func(context.Context) error {
	same := func(got, want []byte) error {
		if !bytes.Equal(got, want) {
			return errors.New("wrong result")
		}
		return nil
	}
	return map[string]func(context.Context) error{
		"EncryptBlocks": func(ctx context.Context) error {
			dst := make([]byte, 32)
			return errors.Join(r.token.EncryptBlocks(ctx, r.blocks, dst, make([]byte, 32)), same(dst, r.want))
		},
		"Open": func(ctx context.Context) error {
			items := []hsm.OpenItem{{Nonce: r.sealed.Nonce, Sealed: r.sealed.Sealed, AAD: r.sealed.AAD}}
			return errors.Join(r.token.Open(ctx, r.gcm, items), items[0].Err, same(items[0].Plaintext, r.sealed.Plaintext))
		},
		"Seal": func(ctx context.Context) error {
			items := []hsm.SealItem{{Plaintext: []byte("p"), AAD: []byte("a")}}
			return errors.Join(r.token.Seal(ctx, r.gcm, items), items[0].Err)
		},
		"Sign": func(ctx context.Context) error {
			_, err := r.token.Sign(ctx, r.p256, hsm.ECDSA, make([]byte, 32))
			return err
		},
		"SignBatch": func(ctx context.Context) error {
			items := make([]hsm.SignItem, 100)
			for i := range items {
				items[i].Input = make([]byte, 32)
			}
			err := r.token.SignBatch(ctx, r.p256, hsm.ECDSA, items)
			for _, item := range items {
				err = errors.Join(err, item.Err)
			}
			return err
		},
		"MAC": func(ctx context.Context) error {
			tag, err := r.token.MAC(ctx, r.mac, []byte("message"))
			return errors.Join(err, same(tag, r.tag))
		},
		"PublicKey": func(ctx context.Context) error {
			_, err := r.token.PublicKey(ctx, r.p256)
			return err
		},
		"GeneratePairAndDestroy": func(ctx context.Context) error {
			r.next++
			_, err := r.token.GenerateKey(ctx, hsm.UID{r.next}, "", hsm.Ed25519)
			return errors.Join(err, r.token.DestroyKey(ctx, hsm.UID{r.next}))
		},
		"SetLabel": func(ctx context.Context) error {
			r.next++
			return r.token.SetLabel(ctx, r.p256, string([]byte{'a' + r.next%26}))
		},
		"GenerateAndDestroy": func(ctx context.Context) error {
			r.next++
			_, err := r.token.GenerateKey(ctx, hsm.UID{r.next}, "", hsm.AES256Blocks)
			return errors.Join(err, r.token.DestroyKey(ctx, hsm.UID{r.next}))
		},
		"Destroy": func(ctx context.Context) error {
			err := r.token.DestroyKey(ctx, hsm.UID{0xff})
			if errors.Is(err, hsm.ErrKeyNotFound) {
				return nil
			}
			return errors.Join(errors.New("expected ErrKeyNotFound"), err)
		},
		"ImportSessionKey": func(ctx context.Context) error {
			r.next++
			err := r.token.ImportSessionKey(ctx, hsm.UID{r.next}, hsm.AES256Blocks, make([]byte, 32))
			return errors.Join(err, r.token.EncryptBlocks(ctx, hsm.UID{r.next}, make([]byte, 16), make([]byte, 16)))
		},
		"Keys": func(ctx context.Context) error {
			keys, err := r.token.Keys(ctx)
			if len(keys) != 4 {
				err = errors.Join(err, errors.New("wrong number of keys"))
			}
			return err
		},
		"Key": func(ctx context.Context) error {
			_, err := r.token.Key(ctx, r.blocks)
			return err
		},
		"SetUsable": func(ctx context.Context) error { return r.token.SetUsable(ctx, r.blocks, true) },
		"Random":    func(ctx context.Context) error { return r.token.Random(ctx, make([]byte, 8)) },
		"Check":     func(ctx context.Context) error { return r.token.Check(ctx) },
	}
}

// recovers checks that each operation succeeds as the first one after a loss.
func (r *rig) recovers(lose func() error) {
	r.Helper()
	for name, operation := range r.operations() {
		if err := lose(); err != nil {
			r.Fatalf("losing: %v", err)
		}
		if err := operation(r.Context()); err != nil {
			r.Errorf("%s after the loss: %v", name, err)
		}
		if err := operation(r.Context()); err != nil {
			r.Errorf("%s again: %v", name, err)
		}
	}
}

// closeAllSessions does what another owner of the module would, or a device that
// was reset.
func (r *rig) closeAllSessions() error { return r.token.Raw().CloseAllSessions(r.token.Slot()) }

// logout ends the login of the process, through a session of its own.
func (r *rig) logout() error {
	session, err := r.token.Raw().OpenSession(r.token.Slot(), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	return errors.Join(r.token.Raw().Logout(session), r.token.Raw().CloseSession(session))
}

func TestSessionsLost(t *testing.T) {
	r := newRig(t, nil)
	if !r.token.UsesCrypto11() {
		t.Fatal("keys are not generated by crypto11")
	}
	r.recovers(r.closeAllSessions)
}

func TestLoginLost(t *testing.T) {
	r := newRig(t, nil)
	r.recovers(r.logout)
}

// TestModuleFinalized: somebody ends the module.
func TestModuleFinalized(t *testing.T) {
	r := newRig(t, nil)
	r.recovers(func() error { return r.token.Raw().Finalize() })
}

// TestModuleFinalizedUnderTwoTokens: both come back, whichever is first.
func TestModuleFinalizedUnderTwoTokens(t *testing.T) {
	a, b := newRig(t, nil), newRig(t, nil)
	for range 3 {
		if err := a.token.Raw().Finalize(); err != nil {
			t.Fatal(err)
		}
		for _, r := range []*rig{a, b, a} {
			for name, operation := range r.operations() {
				if err := operation(t.Context()); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		a, b = b, a
	}
}

// TestLossUnderLoad: the login is lost while many work. What fails may only fail as
// unavailable, never with a wrong result or as a missing key, and afterwards all is
// well. (Sessions cannot be lost here: SoftHSM crashes when a session is closed
// that another thread is using.)
func TestLossUnderLoad(t *testing.T) {
	r := newRig(t, func(c *pkcs11hsm.Config) { c.Sessions = 4 })
	var stop atomic.Bool
	var done atomic.Int64
	var wg sync.WaitGroup
	operations := r.operations()
	for range 8 {
		wg.Go(func() {
			for !stop.Load() {
				for _, name := range []string{"EncryptBlocks", "Open", "Seal"} {
					err := operations[name](t.Context())
					// A loss that happens within the repair of another is reported.
					if err != nil && (errors.Is(err, hsm.ErrKeyNotFound) || errors.Is(err, hsm.ErrAuthentication) ||
						!errors.Is(err, hsm.ErrUnavailable) && !errors.Is(err, hsm.ErrLoginLost)) {
						t.Errorf("%s: %v", name, err)
					}
					done.Add(1)
				}
			}
		})
	}
	// Session keys are made in the anchor, which logging in needs, too.
	wg.Go(func() {
		for n := 1; !stop.Load(); n++ {
			uid := hsm.UID{0xee, byte(n >> 8), byte(n)}
			err := r.token.ImportSessionKey(t.Context(), uid, hsm.AES256Blocks, make([]byte, 32))
			if err == nil {
				err = r.token.DestroyKey(t.Context(), uid)
			}
			if err != nil && !errors.Is(err, hsm.ErrKeyNotFound) && !errors.Is(err, hsm.ErrUnavailable) &&
				!errors.Is(err, hsm.ErrLoginLost) {
				t.Errorf("session key: %v", err)
			}
		}
	})
	for i := range int64(10) {
		for done.Load() < 100*i {
			if err := r.token.Check(t.Context()); err != nil && !errors.Is(err, hsm.ErrUnavailable) && !errors.Is(err, hsm.ErrLoginLost) {
				t.Error(err)
			}
		}
		_ = r.logout() // with the others at work, it may be lost already
	}
	stop.Store(true)
	wg.Wait()
	for name, operation := range operations {
		if err := operation(t.Context()); err != nil {
			t.Errorf("%s afterwards: %v", name, err)
		}
	}
}

// TestPINChanged: a login that cannot be made again is tried once and never again,
// so that the token does not lock.
func TestPINChanged(t *testing.T) {
	var asked atomic.Int64
	var wrong atomic.Bool
	r := newRig(t, func(c *pkcs11hsm.Config) {
		right := c.PIN
		c.PIN = func() ([]byte, error) {
			asked.Add(1)
			if wrong.Load() {
				return []byte("00000000"), nil
			}
			return right()
		}
	})
	if n := asked.Load(); n != 1 {
		t.Fatalf("the PIN was read %d times", n)
	}
	wrong.Store(true)
	if err := r.logout(); err != nil {
		t.Fatal(err)
	}
	operations := r.operations()
	for range 3 {
		for _, name := range []string{"EncryptBlocks", "Keys", "Check"} {
			if err := operations[name](t.Context()); !errors.Is(err, hsm.ErrLoginLost) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if n := asked.Load(); n != 2 {
		t.Fatalf("the wrong PIN was tried %d times", n-1)
	}
}

// TestPINUnreadable: a PIN that cannot be read now may be readable later.
func TestPINUnreadable(t *testing.T) {
	unreadable := errors.New("disk on fire")
	var broken atomic.Bool
	r := newRig(t, func(c *pkcs11hsm.Config) {
		right := c.PIN
		c.PIN = func() ([]byte, error) {
			if broken.Load() {
				return nil, unreadable
			}
			return right()
		}
	})
	broken.Store(true)
	if err := r.logout(); err != nil {
		t.Fatal(err)
	}
	if err := r.token.Check(t.Context()); !errors.Is(err, hsm.ErrLoginLost) || !errors.Is(err, unreadable) {
		t.Fatal(err)
	}
	broken.Store(false)
	if err := r.token.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestOneStuckSession: a session with an operation active is replaced; the others
// stay.
func TestOneStuckSession(t *testing.T) {
	r := newRig(t, func(c *pkcs11hsm.Config) { c.Sessions = 1 })
	raw := r.token.Raw()
	// The pool's one session is the one opened last but those of the probe; find it
	// by starting an operation in every session there could be.
	stuck := 0
	for handle := pkcs11.SessionHandle(1); handle < 200; handle++ {
		if raw.DigestInit(handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_SHA256, nil)}) == nil {
			stuck++
		}
	}
	if stuck == 0 {
		t.Fatal("no session was found to block")
	}
	for name, operation := range r.operations() {
		if err := operation(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
