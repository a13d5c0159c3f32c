package hsmtest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/keyholt/keyholt/hsm"
)

// testDecryptOAEP: what the standard library encrypted opens, with every hash and label that
// the token says it takes; the others are refused.
func testDecryptOAEP(c *contract) {
	for _, spec := range c.with(hsm.UsageDecrypt) {
		uid := c.generate(spec)
		public := c.publicKey(uid, spec)
		for _, hash := range hsm.OAEPHashes() {
			for _, label := range [][]byte{nil, []byte("label")} {
				for _, n := range []int{0, 1, 32, spec.Size() - 2*hash.Size() - 2} {
					what := fmt.Sprintf("%s, %v, label %q, %d bytes", spec, hash, label, n)
					plaintext := randomBytes(n)
					ciphertext := c.encryptOAEP(public, hash, plaintext, label)
					got, err := c.token.DecryptOAEP(c.ctx, uid, hash, ciphertext, label)
					if !c.info.Decrypts(hash) || len(label) > 0 && !c.info.OAEPLabels {
						c.wantError(what, err, hsm.ErrUnsupported)
						continue
					}
					if err != nil || !bytes.Equal(got, plaintext) {
						c.Fatalf("%s: %x, %v", what, got, err)
					}
				}
			}
		}
	}
}

// testDecryptRefused: whatever is wrong with a ciphertext, the error is the same to the
// letter (RFC 8017, section 7.1.2).
func testDecryptRefused(c *contract) {
	if !c.needs(hsm.RSA2048Decrypt) {
		return
	}
	uid, other := c.generate(hsm.RSA2048Decrypt), c.generate(hsm.RSA2048Decrypt)
	hash := c.info.OAEP[0]
	public, foreign := c.publicKey(uid, hsm.RSA2048Decrypt), c.publicKey(other, hsm.RSA2048Decrypt)
	good := c.encryptOAEP(public, hash, []byte("plaintext"), nil)
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		c.Fatal("no RSA key")
	}
	raw := func(block []byte) []byte { // textbook RSA of a block that no padding made
		return new(big.Int).Exp(new(big.Int).SetBytes(block), big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, 256))
	}
	high := append([]byte{1}, randomBytes(255)...) // the first byte is not zero: Manger's attack (2001)
	if new(big.Int).SetBytes(high).Cmp(key.N) >= 0 {
		c.Fatal("a modulus that begins with a low byte")
	}
	pkcs1, err := rsa.EncryptPKCS1v15(rand.Reader, key, []byte("plaintext")) //nolint:staticcheck // to see it refused
	c.must(err)
	bad := map[string][]byte{
		"first byte":             flip(0),
		"last byte":              flip(255),
		"zero":                   make([]byte, 256),
		"one":                    append(make([]byte, 255), 1),
		"the modulus":            key.N.FillBytes(make([]byte, 256)),
		"more than the modulus":  bytes.Repeat([]byte{0xff}, 256),
		"padding of version 1.5": pkcs1,
		"another key's":          c.encryptOAEP(foreign, hash, []byte("plaintext"), nil),
		"another label":          c.encryptOAEP(public, hash, []byte("plaintext"), []byte("label")),
		"another hash":           c.encryptOAEP(public, crypto.SHA512, []byte("plaintext"), nil),
		"a first byte not zero":  raw(high),
		"no separator":           raw(append([]byte{0}, randomBytes(255)...)),
	}
	text := ""
	for range 2 { // failures must not wear anything out
		for name, ciphertext := range bad {
			plaintext, err := c.token.DecryptOAEP(c.ctx, uid, hash, ciphertext, nil)
			c.wantError(name, err, hsm.ErrAuthentication)
			if plaintext != nil {
				c.Fatalf("%s: a plaintext", name)
			}
			if text == "" {
				text = err.Error()
			}
			if err.Error() != text {
				c.Fatalf("%s: %q, others %q", name, err, text)
			}
		}
	}
	got, err := c.token.DecryptOAEP(c.ctx, uid, hash, good, nil)
	if err != nil || string(got) != "plaintext" {
		c.Fatalf("%q %v", got, err)
	}
}

func testDecryptArguments(c *contract) {
	if !c.needs(hsm.RSA2048Decrypt) {
		return
	}
	uid := c.generate(hsm.RSA2048Decrypt)
	for _, n := range []int{0, 1, 255, 257, 512, 1 << 20} {
		_, err := c.token.DecryptOAEP(c.ctx, uid, c.info.OAEP[0], make([]byte, n), nil)
		c.wantError(fmt.Sprintf("%d bytes", n), err, hsm.ErrArgument)
	}
	for _, hash := range []crypto.Hash{0, crypto.MD5, crypto.SHA384, crypto.SHA512, 200} {
		_, err := c.token.DecryptOAEP(c.ctx, uid, hash, make([]byte, 256), nil)
		c.wantError("hash", err, hsm.ErrArgument)
	}
	_, err := c.token.DecryptOAEP(c.ctx, c.newUID(), crypto.SHA1, make([]byte, 256), nil)
	c.wantError("unknown key", err, hsm.ErrKeyNotFound)
}
