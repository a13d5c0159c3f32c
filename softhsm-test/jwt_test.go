package softhsmtest_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client/josesigner"
)

// JSON Web Tokens that go-jose has the service sign are verified by another library, by
// the public key that GetPublicKey returns, and refused when they are changed. RSA keys of
// the other sizes differ by their length alone.
func TestTokensForAnotherLibrary(t *testing.T) {
	t.Parallel()
	s := newSurface(t)
	verified := make(map[string]bool)
	for _, a := range signingAlgorithms() {
		if a.KeySpec(0).IsRSA() && a.OutputSize() != 2048/8 {
			continue
		}
		name := s.create(a)
		signer, err := s.Signer(t.Context(), name)
		s.must(err)
		tokens, err := josesigner.NewSigner(signer, (&jose.SignerOptions{}).WithType("JWT"))
		s.must(err)
		token, err := josejwt.Signed(tokens).Claims(josejwt.Claims{
			Issuer: "keyholt", Subject: a.String(), Expiry: josejwt.NewNumericDate(time.Now().Add(time.Minute)),
		}).Serialize()
		s.must(err)

		public := s.writePublicKey(name, "key.pem")
		found, err := s.API().GetPublicKey(t.Context(), kms.Principal{}, &kms.GetPublicKeyRequest{Key: name, Format: kms.PublicKeyJWK})
		s.must(err)
		var published struct{ Kid, Alg string }
		s.must(json.Unmarshal(found.Key, &published))

		parser := jwt.NewParser(jwt.WithValidMethods([]string{published.Alg}), jwt.WithIssuer("keyholt"), jwt.WithExpirationRequired())
		keyOf := func(token *jwt.Token) (any, error) {
			if token.Header["kid"] != published.Kid {
				t.Errorf("%s: the token names the key %v, published is %s", a, token.Header["kid"], published.Kid)
			}
			return public, nil
		}
		parsed, err := parser.Parse(token, keyOf)
		if err != nil {
			t.Errorf("%s: %v", a, err)
			continue
		}
		if subject, err := parsed.Claims.GetSubject(); err != nil || subject != a.String() || !parsed.Valid {
			t.Errorf("%s: the token is about %q (%v)", a, subject, err)
		}
		if _, err := parser.Parse(changed(token), keyOf); err == nil {
			t.Errorf("%s: a changed token is accepted", a)
		}
		verified[published.Alg] = true
	}
	if want := 10; len(verified) != want { // ES*, RS*, PS* with three hashes each, EdDSA
		t.Errorf("tokens of %d algorithms, want %d: %v", len(verified), want, verified)
	}
}

// changed flips a bit in the middle of the signature, where its encoding has no slack.
func changed(token string) string {
	b := []byte(token)
	if i := len(b) - 20; b[i] == 'A' {
		b[i] = 'B'
	} else {
		b[i] = 'A'
	}
	return string(b)
}
