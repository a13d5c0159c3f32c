package sshsigner

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/ssh"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// ErrAlgorithm is the error of a key whose algorithm SSH does not have.
var ErrAlgorithm = errors.New("SSH has no such signatures")

// New makes an SSH signer. It offers the one signature algorithm of SSH that the key's
// algorithm is:
//
//	EC_SIGN_P256_SHA256      ecdsa-sha2-nistp256 (RFC 5656), and so on
//	EC_SIGN_ED25519          ssh-ed25519 (RFC 8709)
//	RSA_SIGN_PKCS1_*_SHA256  rsa-sha2-256 (RFC 8332)
//	RSA_SIGN_PKCS1_*_SHA512  rsa-sha2-512
//
// Errors match [ErrAlgorithm] for RSASSA-PSS, and for RSA with SHA-384.
func New(s *client.Signer) (ssh.MultiAlgorithmSigner, error) {
	name, err := algorithm(s.Algorithm())
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromSigner(s)
	if err != nil {
		return nil, err
	}
	one, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, fmt.Errorf("%w: %T chooses the algorithm itself", ErrAlgorithm, signer)
	}
	only, err := ssh.NewSignerWithAlgorithms(one, []string{name})
	if err != nil {
		return nil, err
	}
	return signerOf{only, name}, nil
}

// signerOf is a signer whose Sign, too, signs as the key can: that of package ssh has an RSA
// key sign with SHA-1.
type signerOf struct {
	ssh.MultiAlgorithmSigner
	name string
}

// Sign signs data with the one algorithm.
func (s signerOf) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, s.name)
}

func algorithm(a kms.Algorithm) (string, error) {
	switch a {
	case kms.AlgorithmECP256SHA256:
		return ssh.KeyAlgoECDSA256, nil
	case kms.AlgorithmECP384SHA384:
		return ssh.KeyAlgoECDSA384, nil
	case kms.AlgorithmECP521SHA512:
		return ssh.KeyAlgoECDSA521, nil
	case kms.AlgorithmEd25519:
		return ssh.KeyAlgoED25519, nil
	case kms.AlgorithmRSA2048PKCS1SHA256, kms.AlgorithmRSA3072PKCS1SHA256, kms.AlgorithmRSA4096PKCS1SHA256:
		return ssh.KeyAlgoRSASHA256, nil
	case kms.AlgorithmRSA2048PKCS1SHA512, kms.AlgorithmRSA3072PKCS1SHA512, kms.AlgorithmRSA4096PKCS1SHA512:
		return ssh.KeyAlgoRSASHA512, nil
	default:
		return "", fmt.Errorf("%w as %s makes: RSA keys need an algorithm of RSA_SIGN_PKCS1 with SHA256 or SHA512", ErrAlgorithm, a)
	}
}
