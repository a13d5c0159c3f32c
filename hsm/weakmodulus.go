package hsm

import (
	"crypto/rsa"
	"fmt"
	"math/big"
)

const (
	// smallestFactor bounds the primes that no modulus may have for a factor.
	smallestFactor = 1000
	// fermatRounds is how far Fermat's method is followed: it finds primes that are close to
	// each other, as broken generators make them (CVE-2022-26320), in its first rounds.
	fermatRounds = 100
)

// CheckImportedModulus refuses RSA keys whose modulus is easily factored: by a small prime
// (SP 800-89, section 5.3.3), or because its primes are close to each other (FIPS 186-5,
// A.1.3, wants them apart). No generator worth the name makes one; of a key that was made
// elsewhere nobody knows what did. Keys that are not RSA pass. The error is ErrArgument.
func CheckImportedModulus(public any) error {
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil
	}
	if hasSmallFactor(key.N) || hasCloseFactors(key.N) {
		return fmt.Errorf("%w: the modulus of the RSA key is easily factored", ErrArgument)
	}
	return nil
}

func hasSmallFactor(n *big.Int) bool {
	product, one := big.NewInt(1), big.NewInt(1)
	for p := int64(2); p < smallestFactor; p++ {
		if candidate := big.NewInt(p); candidate.ProbablyPrime(0) { // exact below 2^64
			product.Mul(product, candidate)
		}
	}
	return new(big.Int).GCD(nil, nil, n, product).Cmp(one) != 0
}

// hasCloseFactors looks for n = a^2 - b^2 = (a+b)(a-b), with a from the square root of n up.
func hasCloseFactors(n *big.Int) bool {
	a, one := new(big.Int).Sqrt(n), big.NewInt(1)
	square, root := new(big.Int), new(big.Int)
	for range fermatRounds {
		if square.Mul(a, a); square.Cmp(n) >= 0 {
			square.Sub(square, n)
			root.Sqrt(square)
			if root.Mul(root, root).Cmp(square) == 0 {
				return true
			}
		}
		a.Add(a, one)
	}
	return false
}
