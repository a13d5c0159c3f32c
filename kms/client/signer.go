package client

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"

	"github.com/keyholt/keyholt/kms"
)

// Signer signs with the private key of one key version, which stays in the HSM. It is a
// [crypto.Signer] and a [crypto.MessageSigner], so x509.CreateCertificate,
// x509.CreateCertificateRequest and tls.Certificate take it; packages sshsigner and
// josesigner make it a signer of SSH and of JSON Web Tokens.
//
// A Signer stays with its version: its public key never changes. After a rotation it goes
// on signing with the version that it has, until that is disabled or revoked; make a new
// one to use the new version.
//
// Calls of concurrent callers are merged into batch RPCs, as those of [DataKeys] are: of all
// Signers that the client has in a namespace, those for signatures in one format, up to 64.
// A lone caller waits for nobody. A caller whose context ends leaves at once, and a call that
// fails, fails alone. Values of a caller's context, such as a trace, do not travel with it:
// where that matters call Sign of [Client.API].
//
// Errors are those of [Client.API], or match [ErrSignerOptions] or [ErrQueueFull].
type Signer struct {
	keyPair
	calls *signQueues
}

var _ crypto.MessageSigner = (*Signer)(nil)

// Signer makes a Signer of the primary version of an ASYMMETRIC_SIGN key. It asks the
// service for the public key. Calls of the Signer do not end with ctx: see
// [Signer.WithContext].
func (c *Client) Signer(ctx context.Context, key kms.KeyName) (*Signer, error) {
	return newSigner(ctx, c, &kms.GetPublicKeyRequest{Key: key})
}

// VersionSigner is Signer for a version.
func (c *Client) VersionSigner(ctx context.Context, version kms.VersionName) (*Signer, error) {
	return newSigner(ctx, c, &kms.GetPublicKeyRequest{Version: version})
}

func newSigner(ctx context.Context, c *Client, r *kms.GetPublicKeyRequest) (*Signer, error) {
	pair, err := newKeyPair(ctx, c.API(), kms.PurposeAsymmetricSign, r)
	if err != nil {
		return nil, err
	}
	return &Signer{keyPair: pair, calls: c.signing}, nil
}

// WithContext returns a Signer whose calls end with ctx. The methods of crypto.Signer are
// handed no context, and without one end with the client's timeout ([WithTimeout]).
func (s *Signer) WithContext(ctx context.Context) *Signer {
	c := *s
	c.ctx = ctx
	return &c
}

// Sign signs a digest that opts says the hash of; with EC_SIGN_ED25519 it signs a message
// of up to 64 KiB, and opts.HashFunc() is 0. What opts asks for must be what the key's
// algorithm does: another hash, another padding or another length of the salt is refused
// with [ErrSignerOptions]. Signatures of ECDSA are ASN.1. The reader is not used: the
// randomness is the HSM's.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := checkSignerOpts(s.algorithm, opts); err != nil {
		return nil, err
	}
	if s.algorithm.SignsMessages() {
		return s.signMessage(s.ctx, digest, kms.SignatureDER)
	}
	return s.signDigest(s.ctx, digest, kms.SignatureDER)
}

// SignMessage signs a message of any size, whose digest is computed on this machine, or,
// with EC_SIGN_ED25519, of up to 64 KiB. It is otherwise as Sign.
func (s *Signer) SignMessage(_ io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := checkSignerOpts(s.algorithm, opts); err != nil {
		return nil, err
	}
	return s.SignMessageAs(s.ctx, message, kms.SignatureDER)
}

// SignMessageAs signs a message as the key's algorithm does, with the caller's context, and
// returns the signature in the format.
func (s *Signer) SignMessageAs(ctx context.Context, message []byte, format kms.SignatureFormat) ([]byte, error) {
	if s.algorithm.SignsMessages() {
		return s.signMessage(ctx, message, format)
	}
	hash := s.algorithm.Hash().New()
	hash.Write(message)
	return s.signDigest(ctx, hash.Sum(nil), format)
}

func (s *Signer) signDigest(ctx context.Context, digest []byte, format kms.SignatureFormat) ([]byte, error) {
	return s.calls.sign(ctx, &kms.SignRequest{
		Version: s.version, Digest: digest, DigestHash: s.algorithm.Hash(), Format: format,
	})
}

func (s *Signer) signMessage(ctx context.Context, message []byte, format kms.SignatureFormat) ([]byte, error) {
	if len(message) > kms.MaxMessage {
		return nil, &kms.Error{
			Sentinel: kms.ErrLimitExceeded,
			Message: fmt.Sprintf("%s signs the message itself, inside the HSM: %d bytes are more than %d",
				s.algorithm, len(message), kms.MaxMessage),
		}
	}
	return s.calls.sign(ctx, &kms.SignRequest{Version: s.version, Message: message, Format: format})
}

// X509Algorithm is the algorithm for the SignatureAlgorithm of a template of package x509.
// Certificates and requests need it set with RSASSA-PSS and with RSA and another hash than
// SHA-256: package x509 cannot tell them from the public key.
func (s *Signer) X509Algorithm() x509.SignatureAlgorithm { return algorithmNames(s.algorithm).x509 }

// TLSScheme is the scheme for the SupportedSignatureAlgorithms of a tls.Certificate, which
// keeps package tls from asking for another hash or padding. TLS 1.3 has no use for
// RSASSA-PKCS1-v1_5: servers with RSA keys need an algorithm of RSA_SIGN_PSS.
func (s *Signer) TLSScheme() tls.SignatureScheme { return algorithmNames(s.algorithm).tls }

// Context is what the calls of Sign and SignMessage run with: see [Signer.WithContext].
func (s *Signer) Context() context.Context { return s.ctx }
