package main

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyholt/keyholt/kms"
)

// leastExponent is the least public exponent of an RSA key that is imported.
const leastExponent = 65537

// checkFits refuses a public key, DER of a PKIX SubjectPublicKeyInfo, that is none of the
// algorithm's. It is asked before anything is wrapped or sent: the service does not tell what
// is wrong with a wrapped key.
func checkFits(a kms.Algorithm, public []byte) error {
	err := a.CheckPublicKey(public)
	if err == nil {
		return nil
	}
	parsed, parseErr := x509.ParsePKIXPublicKey(public)
	if parseErr != nil {
		return fmt.Errorf("the public key cannot be read: %w", parseErr)
	}
	kind, fitting := keyKind(parsed), fittingPairs(public)
	if len(fitting) == 0 { // for no algorithm at all: why is in the error
		var refused *kms.Error
		if errors.As(err, &refused) && len(refused.Violations) > 0 {
			return fmt.Errorf("the input, %s, %s", kind, refused.Violations[0].Description)
		}
		return err
	}
	return misfit("is "+kind, a, fitting)
}

// misfit is the error of a key of another algorithm than that of the key it is to be imported
// into. fitting are those that it could have.
func misfit(is string, wanted kms.Algorithm, fitting []kms.Algorithm) error {
	if alike := slices.DeleteFunc(slices.Clone(fitting), func(a kms.Algorithm) bool {
		return a.Purpose() != wanted.Purpose()
	}); len(alike) > 0 {
		fitting = alike
	}
	return &advisedError{
		fmt.Errorf("the input %s: it fits %s, not %s", is, either(names(fitting)), wanted),
		"give a key of " + wanted.String() + `, or import this one into a key of its own algorithm (--algorithm, of new keys and of "import-job wrap").`,
	}
}

// fittingPairs are the algorithms that a public key can be of.
func fittingPairs(public []byte) []kms.Algorithm {
	return slices.DeleteFunc(kms.Algorithms(), func(a kms.Algorithm) bool {
		return !a.KeySpec(kms.ProfileDerived).IsPair() || a.CheckPublicKey(public) != nil
	})
}

// fittingSecrets are the algorithms whose keys are so many bytes.
func fittingSecrets(size int) []kms.Algorithm {
	return slices.DeleteFunc(kms.Algorithms(), func(a kms.Algorithm) bool {
		spec := a.KeySpec(kms.ProfileDerived)
		return spec.IsPair() || spec.Size() != size
	})
}

// keyKind says what a public key is, whatever it is for.
func keyKind(public any) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		kind := fmt.Sprintf("an RSA key of %d bits", key.N.BitLen())
		if key.E < leastExponent {
			kind += fmt.Sprintf(" with the exponent %d (%d is the least)", key.E, leastExponent)
		}
		return kind
	case *ecdsa.PublicKey:
		return "an EC key on " + key.Params().Name
	case ed25519.PublicKey:
		return "an Ed25519 key"
	case *ecdh.PublicKey:
		return fmt.Sprintf("a key for %s", key.Curve())
	default:
		return "a key of another kind"
	}
}

// either lists what one may choose from: "a", "a or b", "a, b or c".
func either(choices []string) string {
	last := len(choices) - 1
	if last < 1 {
		return strings.Join(choices, "")
	}
	return strings.Join(choices[:last], ", ") + " or " + choices[last]
}
