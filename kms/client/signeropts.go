package client

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/keyholt/keyholt/kms"
)

// ErrSignerOptions is the error of options that ask for something else than the key's
// algorithm does: a key signs, and decrypts, in one way only.
var ErrSignerOptions = errors.New("the options do not fit the key's algorithm")

func optionsError(a kms.Algorithm, format string, args ...any) error {
	return fmt.Errorf("%w %s: %s", ErrSignerOptions, a, fmt.Sprintf(format, args...))
}

// checkSignerOpts refuses options that ask for another signature than the algorithm's.
func checkSignerOpts(a kms.Algorithm, opts crypto.SignerOpts) error {
	if opts == nil {
		return optionsError(a, "there are none; crypto.SignerOpts has to say the hash")
	}
	if a.SignsMessages() {
		return checkEd25519Opts(a, opts)
	}
	if opts.HashFunc() != a.Hash() {
		return optionsError(a, "it signs digests of %s, not of %s", a.Hash(), hashName(opts.HashFunc()))
	}
	pss, asked := opts.(*rsa.PSSOptions)
	switch {
	case asked && !a.IsPSS():
		return optionsError(a, "RSASSA-PSS is asked for")
	case !asked && a.IsPSS():
		return optionsError(a, "it signs with RSASSA-PSS, which *rsa.PSSOptions have to ask for")
	case asked && pss.SaltLength != rsa.PSSSaltLengthEqualsHash && pss.SaltLength != a.Hash().Size():
		// PSSSaltLengthAuto, which is 0, means the longest possible salt when signing.
		return optionsError(a, "the salt is as long as the digest: ask for rsa.PSSSaltLengthEqualsHash")
	}
	return nil
}

func checkEd25519Opts(a kms.Algorithm, opts crypto.SignerOpts) error {
	if opts.HashFunc() != 0 {
		return optionsError(a, "it signs messages, not digests of %s", hashName(opts.HashFunc()))
	}
	if ed, ok := opts.(*ed25519.Options); ok && ed.Context != "" {
		return optionsError(a, "it takes no context string (Ed25519ctx of RFC 8032)")
	}
	return nil
}

// checkDecrypterOpts refuses options that ask for another decryption than the algorithm's.
func checkDecrypterOpts(a kms.Algorithm, opts crypto.DecrypterOpts) error {
	oaep, ok := opts.(*rsa.OAEPOptions)
	switch {
	case !ok:
		return optionsError(a, "%T do not ask for RSAES-OAEP: give *rsa.OAEPOptions", opts)
	case oaep.Hash != a.Hash():
		return optionsError(a, "it decrypts with %s, not with %s", a.Hash(), hashName(oaep.Hash))
	case oaep.MGFHash != 0 && oaep.MGFHash != a.Hash():
		return optionsError(a, "its MGF1 is of %s too, not of %s", a.Hash(), hashName(oaep.MGFHash))
	case len(oaep.Label) > 0:
		return optionsError(a, "it takes no label")
	}
	return nil
}

// hashName is the name of a hash, also of none.
func hashName(h crypto.Hash) string {
	if h == 0 {
		return "no hash"
	}
	return h.String()
}

// namesElsewhere are what others call an algorithm of signatures.
type namesElsewhere struct {
	x509 x509.SignatureAlgorithm
	tls  tls.SignatureScheme
}

func algorithmNames(a kms.Algorithm) namesElsewhere {
	switch a {
	case kms.AlgorithmECP256SHA256:
		return namesElsewhere{x509.ECDSAWithSHA256, tls.ECDSAWithP256AndSHA256}
	case kms.AlgorithmECP384SHA384:
		return namesElsewhere{x509.ECDSAWithSHA384, tls.ECDSAWithP384AndSHA384}
	case kms.AlgorithmECP521SHA512:
		return namesElsewhere{x509.ECDSAWithSHA512, tls.ECDSAWithP521AndSHA512}
	case kms.AlgorithmEd25519:
		return namesElsewhere{x509.PureEd25519, tls.Ed25519}
	}
	switch hash := a.Hash(); {
	case a.IsPSS() && hash == crypto.SHA256:
		return namesElsewhere{x509.SHA256WithRSAPSS, tls.PSSWithSHA256}
	case a.IsPSS() && hash == crypto.SHA384:
		return namesElsewhere{x509.SHA384WithRSAPSS, tls.PSSWithSHA384}
	case a.IsPSS():
		return namesElsewhere{x509.SHA512WithRSAPSS, tls.PSSWithSHA512}
	case hash == crypto.SHA256:
		return namesElsewhere{x509.SHA256WithRSA, tls.PKCS1WithSHA256}
	case hash == crypto.SHA384:
		return namesElsewhere{x509.SHA384WithRSA, tls.PKCS1WithSHA384}
	default:
		return namesElsewhere{x509.SHA512WithRSA, tls.PKCS1WithSHA512}
	}
}
