package kms

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"testing"
)

// The keys and thumbprints of RFC 7638, section 3.1, and RFC 8037, appendix A.
func TestThumbprints(t *testing.T) {
	t.Parallel()
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	modulus := "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs" +
		"tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI" +
		"SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	for _, test := range []struct {
		public    crypto.PublicKey
		algorithm Algorithm
		kid       string
	}{
		{&rsa.PublicKey{N: new(big.Int).SetBytes(decode(modulus)), E: 65537}, AlgorithmRSA2048PKCS1SHA256,
			"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{ed25519.PublicKey(decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")), AlgorithmEd25519,
			"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		text, err := jsonWebKey(test.public, test.algorithm)
		if err != nil {
			t.Fatal(err)
		}
		var jwk webKey
		if err := json.Unmarshal(text, &jwk); err != nil {
			t.Fatal(err)
		}
		if jwk.ID != test.kid || jwk.Use != "sig" || jwk.Algorithm != test.algorithm.JWA() {
			t.Errorf("%s, want the thumbprint %s", text, test.kid)
		}
	}
}
