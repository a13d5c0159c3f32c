package hsmtest

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"

	"github.com/keyholt/keyholt/hsm"
)

// testSignSchemes: every signature that the token says it can make verifies with the
// standard library, and with nothing else; the others are refused.
func testSignSchemes(c *contract) {
	for _, spec := range c.with(hsm.UsageSign) {
		uid := c.generate(spec)
		public := c.publicKey(uid, spec)
		for _, scheme := range spec.Schemes() {
			what := fmt.Sprintf("%s with %s", spec, scheme)
			message := input(spec, scheme)
			before := bytes.Clone(message)
			signature, err := c.token.Sign(c.ctx, uid, scheme, message)
			if !c.info.Signs(spec, scheme) {
				c.wantError(what, err, hsm.ErrUnsupported)
				continue
			}
			c.must(err)
			if len(signature) != spec.OutputSize() || !Verify(public, scheme, message, signature) {
				c.Fatalf("%s: a signature of %d bytes does not verify", what, len(signature))
			}
			if !bytes.Equal(before, message) {
				c.Fatal("the input was changed")
			}
			message[0] ^= 1
			if Verify(public, scheme, message, signature) {
				c.Fatalf("%s: the signature verifies for another input", what)
			}
			message[0] ^= 1
			again, err := c.token.Sign(c.ctx, uid, scheme, message)
			c.must(err)
			// RFC 8017, 8.2 and RFC 8032 are deterministic, a salt is random.
			deterministic := scheme == hsm.PureEd25519 || scheme.Hash() != 0 && !scheme.IsPSS()
			if scheme != hsm.ECDSA && deterministic != bytes.Equal(signature, again) {
				c.Fatalf("%s: signed twice, equal: %v", what, !deterministic)
			}
		}
	}
}

// testSignArguments: every length that a scheme does not sign, every scheme that a key does
// not have.
func testSignArguments(c *contract) {
	for _, spec := range c.with(hsm.UsageSign) {
		if spec.IsRSA() && spec.Size() > 256 {
			continue
		}
		uid := c.generate(spec)
		for _, scheme := range hsm.Schemes() {
			what := fmt.Sprintf("%s with %s", spec, scheme)
			if !spec.Has(scheme) {
				_, err := c.token.Sign(c.ctx, uid, scheme, make([]byte, 32))
				c.wantError(what, err, hsm.ErrKeyNotPermitted)
				continue
			}
			if !c.info.Signs(spec, scheme) {
				continue
			}
			lengths := []int{0, hsm.MaxMessage + 1}
			if n := len(input(spec, scheme)); scheme != hsm.PureEd25519 {
				lengths = append(lengths, 1, 20, n-1, n+1, 2*n, 28)
				for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
					if hash.Size() != n {
						lengths = append(lengths, hash.Size())
					}
				}
			}
			for _, n := range lengths {
				signature, err := c.token.Sign(c.ctx, uid, scheme, make([]byte, n))
				c.wantError(fmt.Sprintf("%s of %d bytes", what, n), err, hsm.ErrArgument)
				if signature != nil {
					c.Fatal("a refused input has a signature")
				}
			}
		}
		for _, scheme := range []hsm.Scheme{0, 9, 255} {
			_, err := c.token.Sign(c.ctx, uid, scheme, make([]byte, 32))
			c.wantError("no scheme", err, hsm.ErrArgument)
		}
		if spec == hsm.Ed25519 {
			for _, n := range []int{1, hsm.MaxMessage} {
				message := randomBytes(n)
				signature, err := c.token.Sign(c.ctx, uid, hsm.PureEd25519, message)
				c.must(err)
				if !Verify(c.publicKey(uid, spec), hsm.PureEd25519, message, signature) {
					c.Fatalf("a message of %d bytes does not verify", n)
				}
			}
		}
	}
	_, err := c.token.Sign(c.ctx, c.newUID(), hsm.ECDSA, make([]byte, 32))
	c.wantError("unknown key", err, hsm.ErrKeyNotFound)
}

// testSignBatch: many items, of which bad ones fail alone.
func testSignBatch(c *contract) {
	for _, spec := range c.with(hsm.UsageSign) {
		if spec.IsRSA() && spec.Size() > 256 {
			continue
		}
		uid, scheme := c.generate(spec), c.schemes(spec)[0]
		public := c.publicKey(uid, spec)
		c.wantError("nothing", c.token.SignBatch(c.ctx, uid, scheme, nil), hsm.ErrArgument)
		for _, n := range []int{1, 2, 3, 70} {
			items := make([]hsm.SignItem, n)
			for i := range items {
				items[i].Input = input(spec, scheme)
				if i%7 == 2 {
					items[i].Input = nil
				}
			}
			for range 2 { // results of before are overwritten
				c.must(c.token.SignBatch(c.ctx, uid, scheme, items))
				for i, item := range items {
					if i%7 == 2 {
						c.wantError("empty item", item.Err, hsm.ErrArgument)
						continue
					}
					c.must(item.Err)
					if !Verify(public, scheme, item.Input, item.Signature) {
						c.Fatalf("%s: item %d of %d does not verify", spec, i, n)
					}
				}
			}
			next := bytes.Clone(items[n-1].Signature)
			_ = append(items[max(0, n-2)].Signature, 0xff)
			if !bytes.Equal(next, items[n-1].Signature) {
				c.Fatal("results share memory")
			}
			c.wantError("unknown key", c.token.SignBatch(c.ctx, c.newUID(), scheme, items), hsm.ErrKeyNotFound)
			for _, item := range items {
				if item.Signature != nil || item.Err != nil {
					c.Fatal("a failed SignBatch left results")
				}
			}
		}
		c.must(c.token.DestroyKey(c.ctx, uid))
	}
}

// testPublicKey: it stays what it is, is another for another key, and is there for all
// pairs.
func testPublicKey(c *contract) {
	var seen [][]byte
	for _, spec := range c.shortest() {
		if !spec.IsPair() {
			continue
		}
		uid := c.generate(spec)
		der, err := c.token.PublicKey(c.ctx, uid)
		c.must(err)
		c.publicKey(uid, spec)
		if slices.ContainsFunc(seen, func(other []byte) bool { return bytes.Equal(other, der) }) {
			c.Fatal("two pairs have one public key")
		}
		seen = append(seen, der)
		elsewhere, err := c.another().PublicKey(c.ctx, uid)
		c.must(err)
		if !bytes.Equal(der, elsewhere) {
			c.Fatal("two logins, two public keys")
		}
	}
	_, err := c.token.PublicKey(c.ctx, c.newUID())
	c.wantError("unknown key", err, hsm.ErrKeyNotFound)
}

// testPairs: a pair is one key: listed once, labelled and destroyed as one.
func testPairs(c *contract) {
	for _, spec := range c.shortest() {
		if !spec.IsPair() {
			continue
		}
		uid := c.generate(spec)
		_, err := c.token.GenerateKey(c.ctx, uid, "", spec)
		c.wantError("GenerateKey again", err, hsm.ErrKeyExists)
		keys, err := c.token.Keys(c.ctx)
		c.must(err)
		if len(keys) != 1 || keys[0].UID != uid || keys[0].Spec != spec || !keys[0].Usable {
			c.Fatalf("a pair of %s is listed as %+v", spec, keys)
		}
		if c.info.LabelSwitch {
			c.must(c.token.SetLabel(c.ctx, uid, "another label"))
			object, err := c.another().Key(c.ctx, uid)
			c.must(err)
			if object.Label != "another label" || object.Spec != spec {
				c.Fatalf("%+v", object)
			}
		}
		use := c.use(uid, spec)
		another := c.another()
		c.must(use(another))
		c.must(c.token.DestroyKey(c.ctx, uid))
		c.wantGone(uid)
		c.wantError("use after destruction", use(c.token), hsm.ErrKeyNotFound)
		c.wantError("use elsewhere after destruction", use(another), hsm.ErrKeyNotFound)
		_, err = c.token.PublicKey(c.ctx, uid)
		c.wantError("PublicKey after destruction", err, hsm.ErrKeyNotFound)
		keys, err = c.token.Keys(c.ctx)
		c.must(err)
		if len(keys) != 0 {
			c.Fatalf("left after destruction: %+v", keys)
		}
	}
}
