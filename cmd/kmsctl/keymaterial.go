package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/keyholt/keyholt/kms"
)

// maxKeyFile is the most bytes of a file with a key: PEM of an RSA-4096 key has 3,300.
const maxKeyFile = 16 << 10

// keyMaterial is a key that is to be imported.
type keyMaterial struct {
	key    kms.Secret // bytes of a secret key, or PKCS#8 of a pair
	public []byte     // of a pair: SubjectPublicKeyInfo
}

// wipe overwrites the key. What Go's parsers have copied cannot be reached.
func (m *keyMaterial) wipe() { m.key.Wipe() }

// readKeyMaterial reads a key as its algorithm wants it: the bytes of a secret key, just as
// they are, or a private key in PEM.
func readKeyMaterial(src io.Reader, a kms.Algorithm) (*keyMaterial, error) {
	buffer := make(kms.Secret, maxKeyFile+1) // of one piece, so that no copy of it stays behind
	n, err := io.ReadFull(src, buffer)
	switch {
	case err == nil:
		buffer.Wipe()
		return nil, fmt.Errorf("the input is longer than %d bytes: it is no key", maxKeyFile)
	case !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF):
		buffer.Wipe()
		return nil, err
	}
	spec := a.KeySpec(kms.ProfileDerived)
	if !spec.IsPair() && n == spec.Size() {
		return &keyMaterial{key: buffer[:n]}, nil
	}
	defer buffer.Wipe()
	if n == 0 {
		return nil, errors.New("the input is empty: it is no key")
	}
	material, err := parsePrivateKey(buffer[:n])
	switch fitting := fittingSecrets(n); {
	case err == nil:
		if err := checkFits(a, material.public); err != nil {
			material.wipe()
			return nil, err
		}
		return material, nil
	case !errors.Is(err, errNoPrivateKey):
		return nil, err
	case len(fitting) > 0:
		return nil, misfit(fmt.Sprintf("is %d bytes without encoding", n), a, fitting)
	case spec.IsPair():
		return nil, err
	default:
		return nil, fmt.Errorf("the input has %d bytes: a key of %s is %d bytes, as they are, without encoding or line break", n, a, spec.Size())
	}
}

// parsePrivateKey reads a private key in PEM: PKCS#8 (RFC 5958), and the older forms of RSA
// (RFC 8017) and EC keys (RFC 5915).
func parsePrivateKey(text []byte) (*keyMaterial, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errNoPrivateKey
		}
		var private any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			private, err = parseUnencrypted(block, func(der []byte) (any, error) { return x509.ParsePKCS1PrivateKey(der) })
		case "EC PRIVATE KEY":
			private, err = parseUnencrypted(block, func(der []byte) (any, error) { return x509.ParseECPrivateKey(der) })
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncryptedKey
		default: // parameters of a curve, a certificate
			text = rest
			continue
		}
		clear(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("the private key cannot be read: %w", err)
		}
		return marshalPair(private)
	}
}

var errNoPrivateKey = errors.New("the input holds no private key in PEM")

var errEncryptedKey = errors.New(`the private key is encrypted: decrypt it into a pipe, as with "openssl pkey -in FILE | kmsctl key import ... --in -"`)

func parseUnencrypted(block *pem.Block, parse func([]byte) (any, error)) (any, error) {
	if block.Headers["DEK-Info"] != "" {
		return nil, errEncryptedKey
	}
	return parse(block.Bytes)
}

func marshalPair(private any) (*keyMaterial, error) {
	key, ok := private.(interface{ Public() crypto.PublicKey })
	if ec, isEC := private.(*ecdsa.PrivateKey); !ok || isEC && ec.Curve == nil {
		return nil, fmt.Errorf("the private key is a %T, which is not imported", private)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("the public key of the private key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("the private key cannot be written as PKCS#8: %w", err)
	}
	return &keyMaterial{key: der, public: public}, nil
}
