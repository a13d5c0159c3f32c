package main

import (
	"context"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/keyholt/keyholt/kms"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// readWrapped reads a key that was wrapped elsewhere, and its public key, into the request.
func (a *app) readWrapped(ctx context.Context, f *keyImport, job *kms.ImportJob, algorithm kms.Algorithm,
	request *kmsv1.ImportKeyVersionRequest,
) error {
	switch isPair := algorithm.KeySpec(kms.ProfileDerived).IsPair(); {
	case f.publicKey == "" && algorithm == kms.AlgorithmEd25519:
		return usagef("--public-key is required with a wrapped key of %s: HSMs do not find it out", algorithm)
	case f.publicKey != "" && !isPair:
		return usagef("--public-key is for key pairs: a key of %s has none", algorithm)
	case f.publicKey != "":
		public, err := readPublicKey(f.publicKey)
		if err != nil {
			return err
		}
		if err := checkFits(algorithm, public); err != nil {
			return err
		}
		request.PublicKey = public
	}
	src, _, closeIn, err := a.openIn(ctx, f.wrapped)
	if err != nil {
		return err
	}
	defer closeIn()
	wrapped, err := readSome(src, kms.MaxWrappedKey, "it is no wrapped key")
	if err != nil {
		return err
	}
	if isEncoded(wrapped) {
		clear(wrapped)
		return errNotWrapped
	}
	if err := job.CheckWrapped(algorithm, wrapped); err != nil {
		return err
	}
	request.WrappedKey = wrapped
	return nil
}

var errNotWrapped = &advisedError{
	errors.New("the input is PEM or DER, such as a private key, and not a wrapped key; it was not sent"),
	`give a private key in PEM with --in, or wrap it first: see docs/import.md.`,
}

// isEncoded reports whether data is PEM or one DER sequence: a key that is not wrapped, which
// must not leave this machine. What RSA-OAEP makes looks like that once in 2^32 times or less.
func isEncoded(data []byte) bool {
	if block, _ := pem.Decode(data); block != nil {
		return true
	}
	var value asn1.RawValue
	rest, err := asn1.Unmarshal(data, &value)
	return err == nil && len(rest) == 0 && value.Class == asn1.ClassUniversal && value.Tag == asn1.TagSequence
}

// readPublicKey reads a public key in PEM (RFC 7468) as DER.
func readPublicKey(path string) ([]byte, error) {
	text, err := readFile(path, maxKeyFile, "it is no public key")
	if err != nil {
		return nil, err
	}
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil:
			return nil, fmt.Errorf("%s holds no public key in PEM", path)
		case block.Type == "PUBLIC KEY":
			return block.Bytes, nil
		}
		text = rest
	}
}
