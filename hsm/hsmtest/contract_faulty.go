package hsmtest

import (
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"

	"github.com/keyholt/keyholt/hsm"
)

// faultyKey is a PKCS#8 PrivateKeyInfo that parses and holds no key anybody should use.
type faultyKey struct {
	name  string
	specs []hsm.KeySpec
	value []byte
}

// testImportFaultyKeys: keys that are none, or are easily broken, are refused as the
// caller's mistake, not as a failure of the token, and nothing is left.
func testImportFaultyKeys(c *contract) {
	by, hash, ok := c.importing()
	if !ok {
		return
	}
	for _, faulty := range c.faultyKeys() {
		for _, spec := range faulty.specs {
			if !c.info.CanImport(spec) {
				continue
			}
			uid := c.newUID()
			_, err := c.token.UnwrapKey(c.ctx, uid, "", spec, c.wrap(by, hsm.RSA3072Import, hash, faulty.value, nil))
			if !errors.Is(err, hsm.ErrArgument) && !errors.Is(err, hsm.ErrAuthentication) {
				c.Errorf("%s as %s: %v", faulty.name, spec, err)
			}
			c.wantGone(uid)
		}
	}
}

func (c *contract) faultyKeys() []faultyKey {
	c.Helper()
	power := func(n uint, more int64) *big.Int {
		return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), n), big.NewInt(more))
	}
	usual := big.NewInt(65537)
	p, q := c.prime(1024), c.prime(1024)
	near := new(big.Int).Add(p, big.NewInt(2))
	for !near.ProbablyPrime(20) {
		near.Add(near, big.NewInt(2))
	}
	both := []hsm.KeySpec{hsm.RSA2048Sign, hsm.RSA2048Decrypt}
	keys := []faultyKey{
		{"RSA of 2047 bits", both, c.rsaKey(c.prime(1023), q, usual)},
		{"RSA of 2041 bits", both, c.rsaKey(c.prime(1017), q, usual)},
		{"RSA with a factor of 3", both, c.rsaKey(c.prime(2046), big.NewInt(3), usual)},
		{"RSA with an even modulus", both, c.rsaKey(c.prime(2046), big.NewInt(2), usual)},
		{"RSA with primes that are close", both, c.rsaKey(p, near, usual)},
		{"RSA of a square", both, c.rsaKey(p, p, usual)},
	}
	for name, e := range map[string]*big.Int{
		"0": new(big.Int), "1": big.NewInt(1), "3": big.NewInt(3), "65536": big.NewInt(65536),
		"2^31+11": power(31, 11), "2^64+13": power(64, 13), "2^256+297": power(256, 297),
	} {
		keys = append(keys, faultyKey{"RSA with the exponent " + name, both, c.rsaKey(p, q, e)})
	}
	curve := []hsm.KeySpec{hsm.ECDSAP256}
	return append(keys,
		faultyKey{"P-256 with the private key 0", curve, c.p256Key(make([]byte, 32))},
		faultyKey{"P-256 with an empty private key", curve, c.p256Key([]byte{})},
	)
}

func (c *contract) prime(bits int) *big.Int {
	c.Helper()
	p, err := rand.Prime(rand.Reader, bits)
	c.must(err)
	return p
}

// rsaKey is the PKCS#8 of an RSA key, whatever its primes and its exponent are.
func (c *contract) rsaKey(p, q, e *big.Int) []byte {
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	d := new(big.Int).ModInverse(e, new(big.Int).Mul(p1, q1))
	if d == nil {
		d = new(big.Int).Set(one)
	}
	inverse := new(big.Int).ModInverse(q, p)
	if inverse == nil {
		inverse = one
	}
	return c.privateKeyInfo(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue, struct { // RFC 8017, A.1.2
		Version                     int
		N, E, D, P, Q, DP, DQ, QInv *big.Int
	}{0, new(big.Int).Mul(p, q), e, d, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), inverse})
}

// p256Key is the PKCS#8 of a P-256 key, without its public key.
func (c *contract) p256Key(private []byte) []byte {
	c.Helper()
	curve, err := asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})
	c.must(err)
	return c.privateKeyInfo(asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, asn1.RawValue{FullBytes: curve}, struct { // RFC 5915
		Version    int
		PrivateKey []byte
	}{1, private})
}

// privateKeyInfo is that of RFC 5208.
func (c *contract) privateKeyInfo(algorithm asn1.ObjectIdentifier, parameters asn1.RawValue, key any) []byte {
	c.Helper()
	inner, err := asn1.Marshal(key)
	c.must(err)
	der, err := asn1.Marshal(struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: parameters}, inner})
	c.must(err)
	return der
}
