package hsmtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"

	"github.com/keyholt/keyholt/hsm"
)

// input is something that a key of the specification signs with the scheme.
func input(spec hsm.KeySpec, scheme hsm.Scheme) []byte {
	switch {
	case scheme == hsm.ECDSA:
		return randomBytes(spec.Hash().Size())
	case scheme.Hash() != 0:
		return randomBytes(scheme.Hash().Size())
	default:
		return randomBytes(100)
	}
}

// schemes are those of the specification that the token has.
func (c *contract) schemes(spec hsm.KeySpec) (schemes []hsm.Scheme) {
	for _, scheme := range spec.Schemes() {
		if c.info.Signs(spec, scheme) {
			schemes = append(schemes, scheme)
		}
	}
	return schemes
}

// publicKey is the public key of a pair, which is encoded as it should be.
func (c *contract) publicKey(uid hsm.UID, spec hsm.KeySpec) crypto.PublicKey {
	c.Helper()
	der, err := c.token.PublicKey(c.ctx, uid)
	c.must(err)
	public, err := hsm.ParsePublicKey(spec, der)
	c.must(err)
	return public
}

// encryptOAEP encrypts with the public key of a pair.
func (c *contract) encryptOAEP(public crypto.PublicKey, hash crypto.Hash, plaintext, label []byte) []byte {
	c.Helper()
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		c.Fatalf("%T is no RSA key", public)
	}
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, key, plaintext, label)
	c.must(err)
	return ciphertext
}

// use returns a use of a key that is on now.
func (c *contract) use(uid hsm.UID, spec hsm.KeySpec) func(hsm.Token) error {
	c.Helper()
	switch spec.Usage() {
	case hsm.UsageGCM:
		return func(t hsm.Token) error { return t.Seal(c.ctx, uid, []hsm.SealItem{{AAD: []byte("a")}}) }
	case hsm.UsageMAC:
		return func(t hsm.Token) error {
			_, err := t.MAC(c.ctx, uid, []byte("message"))
			return err
		}
	case hsm.UsageSign:
		scheme := c.schemes(spec)[0]
		return func(t hsm.Token) error {
			_, err := t.Sign(c.ctx, uid, scheme, input(spec, scheme))
			return err
		}
	case hsm.UsageDecrypt:
		ciphertext := c.encryptOAEP(c.publicKey(uid, spec), c.info.OAEP[0], []byte("plaintext"), nil)
		return func(t hsm.Token) error {
			_, err := t.DecryptOAEP(c.ctx, uid, c.info.OAEP[0], ciphertext, nil)
			return err
		}
	case hsm.UsageImport:
		wrapped := c.wrap(uid, spec, c.info.ImportHashes[0], randomBytes(32), nil)
		return func(t hsm.Token) error {
			imported := c.newUID()
			_, err := t.UnwrapKey(c.ctx, imported, "", hsm.AES256Blocks, wrapped)
			if err != nil {
				return err
			}
			return t.DestroyKey(c.ctx, imported)
		}
	default:
		return func(t hsm.Token) error { return t.EncryptBlocks(c.ctx, uid, make([]byte, 32), make([]byte, 32)) }
	}
}

// wrap wraps a key for the token.
func (c *contract) wrap(by hsm.UID, spec hsm.KeySpec, hash crypto.Hash, value, public []byte) hsm.Wrapped {
	c.Helper()
	kek := randomBytes(32)
	wrapped, err := hsm.WrapAES(kek, value)
	c.must(err)
	return hsm.Wrapped{
		By: by, Hash: hash, Key: c.encryptOAEP(c.publicKey(by, spec), hash, kek, nil), Value: wrapped, PublicKey: public,
	}
}

// sample is a key made outside: the bytes of a secret, or the PKCS#8 of a pair and its
// public key.
type sample struct {
	value, public []byte
	private       crypto.Signer
}

func (c *contract) sample(spec hsm.KeySpec) (s sample) {
	c.Helper()
	if !spec.IsPair() {
		return sample{value: randomBytes(spec.Size())}
	}
	private, err := generatePrivateKey(spec, generateRSA)
	c.must(err)
	value, err := x509.MarshalPKCS8PrivateKey(private)
	c.must(err)
	public, err := x509.MarshalPKIXPublicKey(private.Public())
	c.must(err)
	return sample{value: value, public: public, private: private}
}

// somePublicKey is a public key of the specification where an import needs one.
func (c *contract) somePublicKey(spec hsm.KeySpec) []byte {
	if spec != hsm.Ed25519 {
		return nil
	}
	return c.sample(spec).public
}

// wantGone checks that nothing was left in the token.
func (c *contract) wantGone(uid hsm.UID) {
	c.Helper()
	if _, err := c.token.Key(c.ctx, uid); !errors.Is(err, hsm.ErrKeyNotFound) {
		c.Fatalf("something is left of a key that was refused: %v", err)
	}
}
