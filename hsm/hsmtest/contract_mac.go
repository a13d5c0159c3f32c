package hsmtest

import (
	"bytes"
	"crypto/hmac"

	"github.com/keyholt/keyholt/hsm"
)

// testMACAgainstStdlib compares tags under known keys.
func testMACAgainstStdlib(c *contract) {
	for _, spec := range c.with(hsm.UsageMAC) {
		key := randomBytes(spec.Size())
		uid, ok := c.importKey(spec, key)
		if !ok {
			return
		}
		for _, n := range []int{1, 32, 1000, hsm.MaxMessage} {
			message := randomBytes(n)
			tag, err := c.token.MAC(c.ctx, uid, message)
			c.must(err)
			want := hmac.New(spec.Hash().New, key)
			want.Write(message)
			if !hmac.Equal(tag, want.Sum(nil)) {
				c.Fatalf("%s of %d bytes differs from the standard library's", spec, n)
			}
		}
	}
}

// testMACGenerated: a tag depends on key and message and on nothing else.
func testMACGenerated(c *contract) {
	for _, spec := range c.with(hsm.UsageMAC) {
		uid, other := c.generate(spec), c.generate(spec)
		message := randomBytes(50)
		mac := func(t hsm.Token, uid hsm.UID) []byte {
			tag, err := t.MAC(c.ctx, uid, message)
			c.must(err)
			if len(tag) != spec.OutputSize() {
				c.Fatalf("%s: a tag of %d bytes", spec, len(tag))
			}
			return tag
		}
		tag := mac(c.token, uid)
		if !bytes.Equal(tag, mac(c.another(), uid)) || bytes.Equal(tag, mac(c.token, other)) {
			c.Fatalf("%s: tags of one key differ, or of two do not", spec)
		}
		message[49] ^= 1
		if bytes.Equal(tag, mac(c.token, uid)) {
			c.Fatalf("%s: two messages have one tag", spec)
		}
		for _, n := range []int{0, hsm.MaxMessage + 1} {
			_, err := c.token.MAC(c.ctx, uid, make([]byte, n))
			c.wantError("length", err, hsm.ErrArgument)
		}
	}
	_, err := c.token.MAC(c.ctx, c.newUID(), []byte("m"))
	c.wantError("unknown key", err, hsm.ErrKeyNotFound)
}

// testMACBatch: many items give what each gives alone; bad ones fail alone.
func testMACBatch(c *contract) {
	for _, spec := range c.with(hsm.UsageMAC) {
		uid := c.generate(spec)
		c.wantError("nothing", c.token.MACBatch(c.ctx, uid, nil), hsm.ErrArgument)
		items := make([]hsm.MACItem, 200)
		for i := range items {
			items[i].Message = randomBytes(1 + i)
		}
		items[100].Message, items[150].Message = nil, make([]byte, hsm.MaxMessage+1)
		c.must(c.token.MACBatch(c.ctx, uid, items))
		for i, item := range items {
			if i == 100 || i == 150 {
				c.wantError("bad item", item.Err, hsm.ErrArgument)
				continue
			}
			c.must(item.Err)
			if i%20 != 0 {
				continue
			}
			alone, err := c.token.MAC(c.ctx, uid, item.Message)
			c.must(err)
			if !bytes.Equal(item.Tag, alone) {
				c.Fatalf("%s: item %d differs from itself alone", spec, i)
			}
		}
		c.wantError("unknown key", c.token.MACBatch(c.ctx, c.newUID(), items), hsm.ErrKeyNotFound)
		if items[0].Tag != nil || items[100].Err != nil {
			c.Fatal("a failed MACBatch left results")
		}
	}
}
