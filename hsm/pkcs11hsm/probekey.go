package pkcs11hsm

import (
	"crypto/rsa"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/keyholt/keyholt/hsm"
)

// The primes of testRSA2048 of RFC 9500, section 2.1: a key that is published for tests, by
// which whoever sees it in use knows that nothing depends on it.
const (
	probePrimeP = "dd105702382f232b3681f53791e22617c7bf4e9acb81ed48daf6d6995da3eab642839aff012d2ea628b90af279fd3e6f" +
		"7c93cd80f072f01ff2443b3ee8f24ed469a79613a41bd24020f92fd11059bd1d0f301b5ba7a9d3637ca8d65c1a981541" +
		"7d8eab734b0b4f3a2c661d9a1a82f3ac734c40530669ab8e473045a58e65539d"
	probePrimeQ = "ccf1e5bb90c8e9781ea75bebf10bc252e11eb023a0260f1887552a56863f4a6421e8c600bf523d6cb1b0adbdd65bfee4" +
		"a88a037e3d1a415e5bb95648da5a0ca26b54f4a63948522c3d5f89b94a72efff95134d5940ce45758f30898090895658" +
		"8eef575b3e4bc4c368cfe813ee9c252c2b02e0df91f1aa01938d38685d60ba6f"
)

// probeKey is the RSA key that a token is tried with: generating one takes some devices
// seconds.
func probeKey() (*rsa.PrivateKey, error) {
	p, okP := new(big.Int).SetString(probePrimeP, 16)
	q, okQ := new(big.Int).SetString(probePrimeQ, 16)
	if !okP || !okQ {
		return nil, fmt.Errorf("%w: the primes of the probe's key", hsm.ErrArgument)
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	e := new(big.Int).SetBytes(publicExponent)
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(e.Int64())},
		D:         new(big.Int).ModInverse(e, phi),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("%w: the probe's key: %w", hsm.ErrArgument, err)
	}
	return key, nil
}

// privateKeyAttributes are the values of an RSA private key for C_CreateObject.
func privateKeyAttributes(key *rsa.PrivateKey) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, key.N.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, publicExponent),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE_EXPONENT, key.D.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIME_1, key.Primes[0].Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_PRIME_2, key.Primes[1].Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_1, key.Precomputed.Dp.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_EXPONENT_2, key.Precomputed.Dq.Bytes()),
		pkcs11.NewAttribute(pkcs11.CKA_COEFFICIENT, key.Precomputed.Qinv.Bytes()),
	}
}
