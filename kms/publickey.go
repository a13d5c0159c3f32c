package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"hash/crc32"
	"math/big"
)

// String returns the format's name.
func (f PublicKeyFormat) String() string {
	switch f {
	case PublicKeyPEM:
		return "PEM"
	case PublicKeyDER:
		return "DER"
	case PublicKeyJWK:
		return "JWK"
	default:
		return "PUBLIC_KEY_FORMAT_UNSPECIFIED"
	}
}

// GetPublicKey returns the public key of a version, as its sealed row has it: the token
// is not asked. Who encrypts with the public key of an ASYMMETRIC_DECRYPT version leaves no
// trace, so from the first call on the version counts as used.
func (s *Service) GetPublicKey(ctx context.Context, p Principal, r *GetPublicKeyRequest) (*PublicKey, error) {
	format := r.Format
	if format == 0 {
		format = PublicKeyPEM
	}
	known := format == PublicKeyPEM || format == PublicKeyDER || format == PublicKeyJWK
	it, err := s.performKey(ctx, newKeyCall(p, ActionGetPublicKey,
		keyItem{named: namedKey{r.Key, r.Version}}, checkChoice("format", known)))
	if err != nil {
		return nil, err
	}
	v := it.version
	encoded, err := v.encodePublicKey(format)
	if err != nil {
		return nil, err
	}
	return &PublicKey{
		Key: encoded, Format: format, CRC32C: crc32.Checksum(encoded, crc32.MakeTable(crc32.Castagnoli)),
		Version: v.Name, State: v.trustState(), Algorithm: v.algorithm,
	}, nil
}

func (v *versionEntry) encodePublicKey(format PublicKeyFormat) ([]byte, error) {
	public, err := v.publicKey()
	if err != nil {
		return nil, err
	}
	switch format {
	case PublicKeyDER:
		return append([]byte(nil), v.Check...), nil
	case PublicKeyJWK:
		return jsonWebKey(public, v.algorithm)
	default:
		return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: v.Check}), nil
	}
}

// webKey is a JSON Web Key. The members that RFC 7638 hashes come first, in the order of
// their names, so that a value with only these encodes to what is hashed.
type webKey struct {
	Curve    string `json:"crv,omitempty"`
	Exponent string `json:"e,omitempty"`
	Type     string `json:"kty"`
	Modulus  string `json:"n,omitempty"`
	X        string `json:"x,omitempty"`
	Y        string `json:"y,omitempty"`

	Algorithm string `json:"alg,omitempty"`
	ID        string `json:"kid,omitempty"`
	Use       string `json:"use,omitempty"`
}

// jsonWebKey encodes a public key as RFC 7517, RFC 7518 (section 6) and RFC 8037 say.
func jsonWebKey(public crypto.PublicKey, a Algorithm) ([]byte, error) {
	encode := base64.RawURLEncoding.EncodeToString
	var k webKey
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 04 || X || Y (SEC 1, section 2.3.3)
		if err != nil {
			return nil, errorf(ErrVersionUnavailable, "the public key cannot be encoded").because(err)
		}
		half := (len(point) - 1) / 2
		k = webKey{Type: "EC", Curve: key.Params().Name, X: encode(point[1 : 1+half]), Y: encode(point[1+half:])}
	case ed25519.PublicKey:
		k = webKey{Type: "OKP", Curve: "Ed25519", X: encode(key)}
	case *rsa.PublicKey:
		k = webKey{Type: "RSA", Modulus: encode(key.N.Bytes()), Exponent: encode(big.NewInt(int64(key.E)).Bytes())}
	}
	hashed, err := json.Marshal(&k)
	if err != nil {
		return nil, err
	}
	thumbprint := sha256.Sum256(hashed)
	k.Algorithm, k.ID, k.Use = a.JWA(), encode(thumbprint[:]), "sig"
	if a.Purpose() == PurposeAsymmetricDecrypt {
		k.Use = "enc"
	}
	return json.Marshal(&k)
}
