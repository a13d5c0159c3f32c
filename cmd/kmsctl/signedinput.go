package main

import (
	"crypto"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
)

// signedInput is what a signature is of: a digest, or a message.
type signedInput struct {
	digest  []byte
	hash    crypto.Hash
	message []byte
}

// readSigned reads all of src and makes of it what the algorithm signs.
func readSigned(a kms.Algorithm, src io.Reader) (signedInput, error) {
	if a.SignsMessages() {
		message, err := readAtMost(src, kms.MaxMessage, fmt.Sprintf("%s signs the message itself, inside the HSM; "+
			"sign a digest of it, or use a key of another algorithm", a))
		if err == nil && len(message) == 0 {
			err = &advisedError{
				fmt.Errorf("the input is empty: %s signs the message itself, which has 1 byte to 64 KiB", a),
				"see why the input is empty; data that may be empty takes a key of an algorithm that signs digests.",
			}
		}
		return signedInput{message: message}, err
	}
	if !a.Hash().Available() {
		return signedInput{}, fmt.Errorf("this kmsctl does not know how to sign with %s", a)
	}
	hash := a.Hash().New()
	if _, err := io.Copy(hash, src); err != nil {
		return signedInput{}, err
	}
	return signedInput{digest: hash.Sum(nil), hash: a.Hash()}, nil
}

// namedKey is the KEY of a command and its --version.
type namedKey struct {
	key     kms.KeyName
	version kms.VersionName // zero: the primary
}

func parseNamed(arg string, number uint32, namespace kms.NamespaceName) (namedKey, error) {
	key, err := parseKey(arg, namespace)
	if err != nil || number == 0 {
		return namedKey{key: key}, err
	}
	version := key.Version(number)
	if _, err := kms.ParseVersionName(version.String()); err != nil {
		return namedKey{}, usagef("--version %d: %v", number, err)
	}
	return namedKey{key: key, version: version}, nil
}

// either is the one of both that a request names.
func (n namedKey) either() (kms.KeyName, kms.VersionName) {
	if n.version.IsZero() {
		return n.key, n.version
	}
	return kms.KeyName{}, n.version
}

func addVersionNumber(cmd *cobra.Command, number *uint32) {
	cmd.Flags().Uint32Var(number, "version", 0, "number of the key version; default: the primary version")
}
