package hsmtest

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyholt/keyholt/hsm"
)

func testRandom(c *contract) {
	c.must(c.token.Random(c.ctx, nil))
	for _, size := range []int{1, 32, 10000} {
		a, b := make([]byte, size+8), make([]byte, size+8)
		c.must(c.token.Random(c.ctx, a[:size]))
		c.must(c.token.Random(c.ctx, b[:size]))
		if !bytes.Equal(a[size:], make([]byte, 8)) {
			c.Fatal("bytes behind the end were written")
		}
		if size >= 32 && (bytes.Equal(a, b) || bytes.Equal(a[size-32:size], make([]byte, 32))) {
			c.Fatal("not random")
		}
	}
}

// calls are one call of each kind that takes a context.
func (c *contract) calls(ctx context.Context, uid hsm.UID) map[string]error {
	buf := make([]byte, 32)
	_, errGenerate := c.token.GenerateKey(ctx, c.newUID(), "", hsm.AES256Blocks)
	_, errKeys := c.token.Keys(ctx)
	_, errKey := c.token.Key(ctx, uid)
	results := map[string]error{
		"EncryptBlocks": c.token.EncryptBlocks(ctx, uid, buf, make([]byte, 32)),
		"GenerateKey":   errGenerate,
		"Keys":          errKeys,
		"Key":           errKey,
		"DestroyKey":    c.token.DestroyKey(ctx, uid),
		"Random":        c.token.Random(ctx, buf),
		"Check":         c.token.Check(ctx),
	}
	if c.info.UsageSwitch {
		results["SetUsable"] = c.token.SetUsable(ctx, uid, false)
	}
	if c.info.LabelSwitch {
		results["SetLabel"] = c.token.SetLabel(ctx, uid, "cancelled")
	}
	if c.info.SessionKeys {
		results["ImportSessionKey"] = c.token.ImportSessionKey(ctx, c.newUID(), hsm.AES256Blocks, buf)
	}
	_, results["Sign"] = c.token.Sign(ctx, uid, hsm.ECDSA, buf)
	results["SignBatch"] = c.token.SignBatch(ctx, uid, hsm.ECDSA, []hsm.SignItem{{Input: buf}})
	_, results["MAC"] = c.token.MAC(ctx, uid, buf)
	results["MACBatch"] = c.token.MACBatch(ctx, uid, []hsm.MACItem{{Message: buf}})
	_, results["DecryptOAEP"] = c.token.DecryptOAEP(ctx, uid, crypto.SHA1, make([]byte, 256), nil)
	_, results["PublicKey"] = c.token.PublicKey(ctx, uid)
	if c.info.CanImport(hsm.AES256Blocks) {
		_, results["UnwrapKey"] = c.token.UnwrapKey(ctx, c.newUID(), "", hsm.AES256Blocks, hsm.Wrapped{
			By: uid, Hash: c.info.ImportHashes[0], Key: make([]byte, 384), Value: make([]byte, 40),
		})
	}
	if c.needs(hsm.AES256GCM) {
		results["Seal"] = c.token.Seal(ctx, uid, []hsm.SealItem{{AAD: buf}})
		results["Open"] = c.token.Open(ctx, uid, []hsm.OpenItem{{AAD: buf, Nonce: buf[:12], Sealed: buf}})
	}
	return results
}

// testContext: a context that is done ends every call with its error, and nothing
// was done.
func testContext(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	ctx, cancel := context.WithCancel(c.ctx)
	cancel()
	for name, err := range c.calls(ctx, uid) {
		if !errors.Is(err, context.Canceled) {
			c.Errorf("%s: %v", name, err)
		}
	}
	keys, err := c.token.Keys(c.ctx)
	c.must(err)
	if len(keys) != 1 || !keys[0].Usable || keys[0].Label != "contract" {
		c.Fatalf("a cancelled call had an effect: %+v", keys)
	}
	c.must(c.token.Check(c.ctx))
}

// testConcurrency: many goroutines with two keys, some of them giving up, while
// another key is made, switched and destroyed.
func testConcurrency(c *contract) {
	keys := []hsm.UID{c.generate(hsm.AES256Blocks), c.generate(hsm.AES256Blocks)}
	src := randomBytes(512)
	want := [][]byte{c.encrypt(keys[0], src), c.encrypt(keys[1], src)}
	var gcm hsm.UID
	if c.needs(hsm.AES256GCM) {
		gcm = c.generate(hsm.AES256GCM)
	}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(c.ctx)
			defer cancel()
			for i := range 40 {
				if g%8 == 7 && i == 20 {
					cancel()
				}
				k := (g + i) % 2
				dst := make([]byte, len(src))
				err := c.token.EncryptBlocks(ctx, keys[k], dst, src)
				if ctx.Err() != nil {
					if !errors.Is(err, context.Canceled) {
						c.Errorf("cancelled: %v", err)
					}
					return
				}
				if err != nil || !bytes.Equal(dst, want[k]) {
					c.Errorf("goroutine %d, call %d: %v", g, i, err)
					return
				}
				if c.needs(hsm.AES256GCM) && i%10 == 0 {
					c.roundTrip(ctx, gcm)
				}
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			uid := c.newUID()
			if _, err := c.token.GenerateKey(c.ctx, uid, "", hsm.AES256Blocks); err != nil {
				c.Errorf("GenerateKey: %v", err)
				return
			}
			if err := c.token.DestroyKey(c.ctx, uid); err != nil {
				c.Errorf("DestroyKey: %v", err)
			}
		}
	})
	wg.Wait()
}

func (c *contract) roundTrip(ctx context.Context, uid hsm.UID) {
	seals := []hsm.SealItem{{Plaintext: randomBytes(32), AAD: []byte("a")}, {Plaintext: randomBytes(32), AAD: []byte("b")}}
	if err := errors.Join(c.token.Seal(ctx, uid, seals), seals[0].Err, seals[1].Err); err != nil {
		c.Errorf("Seal: %v", err)
		return
	}
	opens := []hsm.OpenItem{opening(seals[0]), opening(seals[1])}
	if err := errors.Join(c.token.Open(ctx, uid, opens), opens[0].Err, opens[1].Err); err != nil {
		c.Errorf("Open: %v", err)
		return
	}
	for i := range opens {
		if !bytes.Equal(opens[i].Plaintext, seals[i].Plaintext) {
			c.Error("another plaintext")
		}
	}
}

// testClose: after Close every call fails with ErrClosed, and closing again is fine.
func testClose(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	c.must(c.token.Close())
	for name, err := range c.calls(c.ctx, uid) {
		c.wantError(name, err, hsm.ErrClosed)
	}
	c.must(c.token.Close())
	if c.token.Info().Label != c.info.Label {
		c.Fatal("Info is gone after Close")
	}
}

// testCloseInFlight: calls that race with Close either finish or fail with
// ErrClosed, and Close waits for them.
func testCloseInFlight(c *contract) {
	uid := c.generate(hsm.AES256Blocks)
	src := randomBytes(2048)
	want := c.encrypt(uid, src)
	var wg sync.WaitGroup
	working := make(chan struct{}, 8)
	for range cap(working) {
		wg.Go(func() {
			for i := 0; ; i++ {
				dst := make([]byte, len(src))
				err := c.token.EncryptBlocks(c.ctx, uid, dst, src)
				if i == 2 {
					working <- struct{}{}
				}
				if errors.Is(err, hsm.ErrClosed) {
					return
				}
				if err != nil || !bytes.Equal(dst, want) {
					c.Errorf("in flight: %v", err)
					working <- struct{}{}
					return
				}
			}
		})
	}
	for range cap(working) {
		<-working
	}
	var closers sync.WaitGroup
	for range 3 {
		closers.Go(func() {
			if err := c.token.Close(); err != nil {
				c.Errorf("Close: %v", err)
			}
		})
	}
	closers.Wait()
	wg.Wait()
}

// testNoLeak: a token that was used and closed leaves no goroutine.
func testNoLeak(t *testing.T, newFixture func(t testing.TB) Fixture) {
	before := goleak.IgnoreCurrent()
	f := newFixture(t)
	uid := hsm.UID{1}
	if _, err := f.Token.GenerateKey(t.Context(), uid, "", hsm.AES256Blocks); err != nil {
		t.Fatal(err)
	}
	if err := f.Token.EncryptBlocks(t.Context(), uid, make([]byte, 32), make([]byte, 32)); err != nil {
		t.Fatal(err)
	}
	if err := f.Token.Close(); err != nil {
		t.Fatal(err)
	}
	if err := goleak.Find(before); err != nil {
		t.Fatal(err)
	}
}
