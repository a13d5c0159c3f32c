package josesigner_test

import (
	"context"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/client/josesigner"
)

// An issuer of JSON Web Tokens whose private key stays in the HSM.
func ExampleNewSigner() {
	keys := map[string]kms.Algorithm{"tokens": kms.AlgorithmECP256SHA256}
	err := withService(keys, func(ctx context.Context, c *client.Client) error {
		key, err := kms.ParseKeyName("namespaces/default/keys/tokens")
		if err != nil {
			return err
		}
		signer, err := c.Signer(ctx, key)
		if err != nil {
			return err
		}
		tokens, err := josesigner.NewSigner(signer, (&jose.SignerOptions{}).WithType("JWT"))
		if err != nil {
			return err
		}
		token, err := jwt.Signed(tokens).Claims(jwt.Claims{
			Issuer: "https://example.com", Subject: "alice", Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
		}).Serialize()
		if err != nil {
			return err
		}

		// Whoever verifies needs the published set of keys, and no service.
		published, err := josesigner.KeySet(signer)
		if err != nil {
			return err
		}
		parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			return err
		}
		var claims jwt.Claims
		if err := parsed.Claims(published, &claims); err != nil {
			return err
		}
		fmt.Println(claims.Subject, claims.Validate(jwt.Expected{Issuer: "https://example.com"}))
		return nil
	})
	if err != nil {
		fmt.Println("error:", err)
	}
	// Output: alice <nil>
}
