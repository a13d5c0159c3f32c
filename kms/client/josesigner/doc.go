// Package josesigner makes a version of an ASYMMETRIC_SIGN key a signer of JSON Web
// Signatures and JSON Web Tokens with go-jose (github.com/go-jose/go-jose/v4).
//
//	signer, err := c.Signer(ctx, key)
//	tokens, err := josesigner.NewSigner(signer, (&jose.SignerOptions{}).WithType("JWT"))
//	token, err := jwt.Signed(tokens).Claims(claims).Serialize()
//
// Tokens name their key in the header "kid", by its SHA-256 thumbprint (RFC 7638): the
// "kid" of the JSON Web Key that GetPublicKey returns. Publish the keys of all versions
// whose tokens are still good as a set ([KeySet]); after a rotation publish the new key
// before signing with it.
//
// Each signature is a call to the service. A signer may be used by many goroutines at once.
package josesigner
