package pkcs11hsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"math/big"
)

// candidates are the public keys under which an ECDSA signature r || s of a digest
// verifies: SEC 1 v2.0, section 4.1.6. There are two, rarely four. All that is computed with
// is public.
func candidates(curve elliptic.Curve, digest, signature []byte) (keys []*ecdsa.PublicKey) {
	params := curve.Params()
	half := len(signature) / 2
	r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
	inverse := new(big.Int).ModInverse(r, params.N)
	if inverse == nil {
		return nil
	}
	// Q = r^-1 (s R - e G)
	e := truncate(digest, params.N)
	u1 := new(big.Int).Mul(inverse, new(big.Int).Neg(e))
	u1.Mod(u1, params.N)
	u2 := new(big.Int).Mul(inverse, s)
	u2.Mod(u2, params.N)
	for x := new(big.Int).Set(r); x.Cmp(params.P) < 0; x.Add(x, params.N) {
		for _, y := range ordinates(params, x) {
			if key := combine(curve, u1, u2, x, y); key != nil {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// truncate is the integer of a digest: its leftmost bits, as many as n has (FIPS 186-5, 6.4.1).
func truncate(digest []byte, n *big.Int) *big.Int {
	e := new(big.Int).SetBytes(digest)
	if excess := 8*len(digest) - n.BitLen(); excess > 0 {
		e.Rsh(e, uint(excess))
	}
	return e
}

// ordinates are both y with y^2 = x^3 - 3x + b; none if x is not on the curve.
func ordinates(params *elliptic.CurveParams, x *big.Int) []*big.Int {
	square := new(big.Int).Mul(x, x)
	square.Sub(square, big.NewInt(3))
	square.Mul(square, x)
	square.Add(square, params.B)
	square.Mod(square, params.P)
	y := new(big.Int).ModSqrt(square, params.P)
	if y == nil || y.Sign() == 0 {
		return nil
	}
	return []*big.Int{y, new(big.Int).Sub(params.P, y)}
}

// combine is u1 G + u2 (x, y) as a public key; nil if that is no key.
func combine(curve elliptic.Curve, u1, u2, x, y *big.Int) *ecdsa.PublicKey {
	//nolint:staticcheck // crypto/ecdsa and crypto/ecdh offer no addition of points; nothing here is secret
	x1, y1 := curve.ScalarBaseMult(u1.Bytes())
	x2, y2 := curve.ScalarMult(x, y, u2.Bytes()) //nolint:staticcheck // as above
	qx, qy := curve.Add(x1, y1, x2, y2)          //nolint:staticcheck // as above
	if qx.Sign() == 0 && qy.Sign() == 0 {
		return nil
	}
	size := (curve.Params().BitSize + 7) / 8
	point := append([]byte{4}, qx.FillBytes(make([]byte, size))...)
	point = append(point, qy.FillBytes(make([]byte, size))...)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil
	}
	return key
}
