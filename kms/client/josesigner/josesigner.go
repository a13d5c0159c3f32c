package josesigner

import (
	"crypto"
	"encoding/base64"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// Opaque is a [jose.OpaqueSigner].
type Opaque struct {
	signer *client.Signer
	public jose.JSONWebKey
}

var _ jose.OpaqueSigner = (*Opaque)(nil)

// New makes an opaque signer, for a program that makes its jose.Signer itself. The error is
// of a public key that has no JSON Web Key.
func New(s *client.Signer) (*Opaque, error) {
	public, err := PublicKey(s)
	if err != nil {
		return nil, err
	}
	return &Opaque{signer: s, public: public}, nil
}

// NewSigner makes a jose.Signer that signs as the key's algorithm does. opts may be nil.
func NewSigner(s *client.Signer, opts *jose.SignerOptions) (jose.Signer, error) {
	opaque, err := New(s)
	if err != nil {
		return nil, err
	}
	return jose.NewSigner(jose.SigningKey{Algorithm: opaque.algorithm(), Key: opaque}, opts)
}

// PublicKey is the public key of a signer as a JSON Web Key (RFC 7517), with "alg", "use"
// and the thumbprint as its "kid".
func PublicKey(s *client.Signer) (jose.JSONWebKey, error) {
	key := jose.JSONWebKey{Key: s.Public(), Algorithm: s.Algorithm().JWA(), Use: "sig"}
	thumbprint, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("thumbprint of %s: %w", s.Version(), err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	return key, nil
}

// KeySet is the set of the signers' public keys, as it is published for those who verify.
func KeySet(signers ...*client.Signer) (*jose.JSONWebKeySet, error) {
	set := &jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(signers))}
	for _, s := range signers {
		key, err := PublicKey(s)
		if err != nil {
			return nil, err
		}
		set.Keys = append(set.Keys, key)
	}
	return set, nil
}

func (o *Opaque) algorithm() jose.SignatureAlgorithm {
	return jose.SignatureAlgorithm(o.signer.Algorithm().JWA())
}

// Public returns the public key.
func (o *Opaque) Public() *jose.JSONWebKey {
	public := o.public
	return &public
}

// Algs returns the one algorithm that the key has, such as ES256.
func (o *Opaque) Algs() []jose.SignatureAlgorithm { return []jose.SignatureAlgorithm{o.algorithm()} }

// SignPayload signs the input of a JSON Web Signature, header included. Signatures of
// ECDSA are r || s (RFC 7518, section 3.4). EdDSA signs the input itself, which is then at
// most 64 KiB. Another algorithm than the key's is jose.ErrUnsupportedAlgorithm; other
// errors are those of [client.Signer].
func (o *Opaque) SignPayload(payload []byte, algorithm jose.SignatureAlgorithm) ([]byte, error) {
	if algorithm != o.algorithm() {
		return nil, jose.ErrUnsupportedAlgorithm
	}
	return o.signer.SignMessageAs(o.signer.Context(), payload, kms.SignatureRaw)
}
