package hsmtest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/keyholt/keyholt/hsm"
)

// testImportKeys: every kind of key that the token says it can unwrap does what the
// same key does outside, is marked as imported, and may do nothing else.
func testImportKeys(c *contract) {
	for _, bySpec := range c.with(hsm.UsageImport) {
		if len(c.info.Imports) == 0 {
			return
		}
		by := c.generate(bySpec)
		for _, spec := range c.specs() {
			if !c.info.CanImport(spec) || spec.IsRSA() && bySpec != hsm.RSA3072Import {
				continue
			}
			known := c.sample(spec)
			for _, hash := range hsm.OAEPHashes() {
				for _, public := range [][]byte{known.public, nil} {
					if public == nil && spec == hsm.Ed25519 || public != nil && spec.IsRSA() && spec.Size() > 256 {
						continue
					}
					c.importOne(spec, known, c.wrap(by, bySpec, hash, known.value, public))
				}
			}
		}
	}
}

func (c *contract) importOne(spec hsm.KeySpec, known sample, w hsm.Wrapped) {
	c.Helper()
	uid := c.newUID()
	made, err := c.token.UnwrapKey(c.ctx, uid, "imported", spec, w)
	if !containsHash(c.info.ImportHashes, w.Hash) {
		c.wantError("UnwrapKey", err, hsm.ErrUnsupported)
		return
	}
	if err != nil {
		c.Fatalf("%s: %v", spec, err)
	}
	read, err := c.token.Key(c.ctx, uid)
	c.must(err)
	for _, o := range []hsm.Object{made, read} {
		if o.UID != uid || o.Label != "imported" || o.Spec != spec || !o.Usable {
			c.Errorf("%s: %+v", spec, o)
		}
		a := o.Attributes
		if a.Local == hsm.ReportedTrue || a.AlwaysSensitive == hsm.ReportedTrue || a.NeverExtractable == hsm.ReportedTrue ||
			o.Local || a.KeyGenMechanism != "" {
			c.Errorf("%s is not marked as imported: %+v", spec, a)
		}
		if a.Sensitive != hsm.ReportedTrue || a.Extractable != hsm.ReportedFalse || a.Private != hsm.ReportedTrue {
			c.Errorf("%s is not protected: %+v", spec, a)
		}
	}
	c.isSame(uid, spec, known)
	_, err = c.token.UnwrapKey(c.ctx, uid, "again", spec, w)
	c.wantError("UnwrapKey again", err, hsm.ErrKeyExists)
	c.must(c.another().DestroyKey(c.ctx, uid))
	c.wantGone(uid)
}

// isSame uses a key of the token and compares with the same key outside.
func (c *contract) isSame(uid hsm.UID, spec hsm.KeySpec, known sample) {
	c.Helper()
	switch spec.Usage() {
	case hsm.UsageBlocks:
		src := randomBytes(64)
		if !bytes.Equal(c.encrypt(uid, src), c.ecb(known.value, src)) {
			c.Fatal("another AES key")
		}
	case hsm.UsageGCM:
		sealed := c.seal(uid, []byte("plaintext"), []byte("a"))
		block, err := aes.NewCipher(known.value)
		c.must(err)
		aead, err := cipher.NewGCMWithNonceSize(block, len(sealed.Nonce))
		c.must(err)
		if got, err := aead.Open(nil, sealed.Nonce, sealed.Sealed, []byte("a")); err != nil || string(got) != "plaintext" {
			c.Fatalf("another AES key: %v", err)
		}
	case hsm.UsageMAC:
		tag, err := c.token.MAC(c.ctx, uid, []byte("message"))
		c.must(err)
		want := hmac.New(spec.Hash().New, known.value)
		want.Write([]byte("message"))
		if !hmac.Equal(tag, want.Sum(nil)) {
			c.Fatal("another HMAC key")
		}
	case hsm.UsageSign:
		c.hasPublicKey(uid, known)
		for _, scheme := range c.schemes(spec) {
			message := input(spec, scheme)
			signature, err := c.token.Sign(c.ctx, uid, scheme, message)
			c.must(err)
			if !Verify(known.private.Public(), scheme, message, signature) {
				c.Fatalf("%s: another key signs", spec)
			}
		}
	case hsm.UsageDecrypt:
		c.hasPublicKey(uid, known)
		private, ok := known.private.(*rsa.PrivateKey)
		if !ok {
			c.Fatal("no RSA key")
		}
		ciphertext := c.encryptOAEP(&private.PublicKey, c.info.OAEP[0], []byte("plaintext"), nil)
		got, err := c.token.DecryptOAEP(c.ctx, uid, c.info.OAEP[0], ciphertext, nil)
		if err != nil || string(got) != "plaintext" {
			c.Fatalf("another key decrypts: %q %v", got, err)
		}
	}
}

func (c *contract) hasPublicKey(uid hsm.UID, known sample) {
	c.Helper()
	der, err := c.token.PublicKey(c.ctx, uid)
	c.must(err)
	if !bytes.Equal(der, known.public) {
		c.Fatal("another public key")
	}
}

func containsHash(hashes []crypto.Hash, hash crypto.Hash) bool {
	for _, h := range hashes {
		if h == hash {
			return true
		}
	}
	return false
}

// importing makes what the tests of refusals need; ok is false where the token imports
// nothing, which testUnsupportedSpecs has then checked.
func (c *contract) importing() (by hsm.UID, hash crypto.Hash, ok bool) {
	if !c.info.CanImport(hsm.AES256Blocks) || !c.needs(hsm.RSA3072Import) {
		return by, 0, false
	}
	return c.generate(hsm.RSA3072Import), c.info.ImportHashes[0], true
}

// testImportRefused: whatever is wrong with a wrapping, the error is the same to the letter,
// and nothing is left.
func testImportRefused(c *contract) {
	by, hash, ok := c.importing()
	if !ok {
		return
	}
	good := c.wrap(by, hsm.RSA3072Import, hash, randomBytes(32), nil)
	other := c.wrap(by, hsm.RSA3072Import, hash, randomBytes(32), nil)
	change := func(f func(w *hsm.Wrapped)) hsm.Wrapped {
		w := good
		w.Key, w.Value = bytes.Clone(good.Key), bytes.Clone(good.Value)
		f(&w)
		return w
	}
	bad := map[string]hsm.Wrapped{
		"first byte of the key": change(func(w *hsm.Wrapped) { w.Key[0] ^= 1 }),
		"last byte of the key":  change(func(w *hsm.Wrapped) { w.Key[383] ^= 1 }),
		"a key of zeros":        change(func(w *hsm.Wrapped) { clear(w.Key) }),
		"another key":           change(func(w *hsm.Wrapped) { w.Key = other.Key }),
		"first byte":            change(func(w *hsm.Wrapped) { w.Value[0] ^= 1 }),
		"last byte":             change(func(w *hsm.Wrapped) { w.Value[39] ^= 1 }),
		"zeros":                 change(func(w *hsm.Wrapped) { clear(w.Value) }),
		"an AES key of 17 bytes": change(func(w *hsm.Wrapped) {
			w.Key = c.encryptOAEP(c.publicKey(by, hsm.RSA3072Import), hash, make([]byte, 17), nil)
		}),
	}
	text := ""
	for name, w := range bad {
		uid := c.newUID()
		_, err := c.token.UnwrapKey(c.ctx, uid, "", hsm.AES256Blocks, w)
		c.wantError(name, err, hsm.ErrAuthentication)
		if text == "" {
			text = err.Error()
		}
		if err.Error() != text {
			c.Fatalf("%s: %q, others %q", name, err, text)
		}
		c.wantGone(uid)
	}
	uid := c.newUID()
	_, err := c.token.UnwrapKey(c.ctx, uid, "", hsm.AES256Blocks, good)
	c.must(err)
	keys, err := c.token.Keys(c.ctx)
	c.must(err)
	if len(keys) != 2 {
		c.Fatalf("%d keys, of an import and its wrapping key", len(keys))
	}
}

// testImportOtherKeys: a key that opens and is not of the specification is refused, and
// nothing is left.
func testImportOtherKeys(c *contract) {
	by, hash, ok := c.importing()
	if !ok {
		return
	}
	refuse := func(what string, spec hsm.KeySpec, value, public []byte) {
		c.Helper()
		if !c.info.CanImport(spec) {
			return
		}
		uid := c.newUID()
		_, err := c.token.UnwrapKey(c.ctx, uid, "", spec, c.wrap(by, hsm.RSA3072Import, hash, value, public))
		if !errors.Is(err, hsm.ErrArgument) && !errors.Is(err, hsm.ErrAuthentication) {
			c.Errorf("%s: %v", what, err)
		}
		c.wantGone(uid)
	}
	for _, spec := range []hsm.KeySpec{hsm.AES256Blocks, hsm.AES256GCM, hsm.HMACSHA256, hsm.HMACSHA384, hsm.HMACSHA512} {
		for _, n := range []int{1, 16, 24, spec.Size() - 1, spec.Size() + 1, spec.Size() - 8, spec.Size() + 8} {
			refuse(fmt.Sprintf("%d bytes as %s", n, spec), spec, randomBytes(n), nil)
		}
	}
	p256, p384, ed := c.sample(hsm.ECDSAP256), c.sample(hsm.ECDSAP384), c.sample(hsm.Ed25519)
	rsa2048 := c.sample(hsm.RSA2048Sign)
	refuse("P-384 as P-256", hsm.ECDSAP256, p384.value, nil)
	refuse("P-256 as RSA", hsm.RSA2048Sign, p256.value, nil)
	refuse("RSA as P-256", hsm.ECDSAP256, rsa2048.value, nil)
	refuse("Ed25519 as P-256", hsm.ECDSAP256, ed.value, nil)
	refuse("P-256 as Ed25519", hsm.Ed25519, p256.value, ed.public)
	refuse("RSA-2048 as RSA-3072", hsm.RSA3072Sign, rsa2048.value, nil)
	refuse("RSA-2048 as RSA-3072 for decryption", hsm.RSA3072Decrypt, rsa2048.value, nil)
	refuse("no PKCS#8", hsm.ECDSAP256, randomBytes(138), nil)
	refuse("the public key of another P-256 pair", hsm.ECDSAP256, p256.value, c.sample(hsm.ECDSAP256).public)
	refuse("the public key of another RSA pair", hsm.RSA2048Sign, rsa2048.value, c.sample(hsm.RSA2048Sign).public)
	refuse("the public key of another RSA pair for decryption", hsm.RSA2048Decrypt, rsa2048.value, c.sample(hsm.RSA2048Sign).public)
}

func testImportArguments(c *contract) {
	by, hash, ok := c.importing()
	if !ok {
		return
	}
	good := c.wrap(by, hsm.RSA3072Import, hash, randomBytes(32), nil)
	for name, f := range map[string]func(w *hsm.Wrapped){
		"no key":             func(w *hsm.Wrapped) { w.Key = nil },
		"a short key":        func(w *hsm.Wrapped) { w.Key = w.Key[:383] },
		"a long key":         func(w *hsm.Wrapped) { w.Key = append(bytes.Clone(w.Key), 0) },
		"no value":           func(w *hsm.Wrapped) { w.Value = nil },
		"a short value":      func(w *hsm.Wrapped) { w.Value = w.Value[:8] },
		"part of a block":    func(w *hsm.Wrapped) { w.Value = w.Value[:39] },
		"a long value":       func(w *hsm.Wrapped) { w.Value = make([]byte, hsm.MaxWrapped+8) },
		"no hash":            func(w *hsm.Wrapped) { w.Hash = 0 },
		"another hash":       func(w *hsm.Wrapped) { w.Hash = crypto.SHA512 },
		"a secret's public":  func(w *hsm.Wrapped) { w.PublicKey = c.sample(hsm.ECDSAP256).public },
		"what is not public": func(w *hsm.Wrapped) { w.PublicKey = randomBytes(91) },
	} {
		w, uid := good, c.newUID()
		f(&w)
		_, err := c.token.UnwrapKey(c.ctx, uid, "", hsm.AES256Blocks, w)
		c.wantError(name, err, hsm.ErrArgument)
		c.wantGone(uid)
	}
	for _, spec := range []hsm.KeySpec{0, 200} {
		_, err := c.token.UnwrapKey(c.ctx, c.newUID(), "", spec, good)
		c.wantError("no specification", err, hsm.ErrArgument)
	}
	_, err := c.token.UnwrapKey(c.ctx, c.newUID(), "", hsm.RSA3072Import, good)
	c.wantError("a wrapping key", err, hsm.ErrUnsupported)
	unknown := good
	unknown.By = c.newUID()
	_, err = c.token.UnwrapKey(c.ctx, c.newUID(), "", hsm.AES256Blocks, unknown)
	c.wantError("unknown wrapping key", err, hsm.ErrKeyNotFound)
	if c.info.CanImport(hsm.ECDSAP256) {
		w := c.wrap(by, hsm.RSA3072Import, hash, c.sample(hsm.ECDSAP256).value, c.sample(hsm.ECDSAP384).public)
		_, err := c.token.UnwrapKey(c.ctx, c.newUID(), "", hsm.ECDSAP256, w)
		c.wantError("the public key of another curve", err, hsm.ErrArgument)
	}
}
