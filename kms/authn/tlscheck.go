package authn

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// TLSFileErrors is what is wrong with each of TLSFiles; nil means nothing. The errors
// match [ErrTLSFile].
type TLSFileErrors struct {
	Cert, Key, ClientCA error
}

// Check reads the files and tells what is wrong with each, where [ServerTLS] stops at the
// first. That the key belongs to another certificate counts against the key.
func (f TLSFiles) Check() TLSFileErrors {
	var bad TLSFileErrors
	_, bad.ClientCA = loadAuthorities(f.ClientCAFile)
	certPEM, err := os.ReadFile(f.CertFile)
	if err == nil {
		err = checkCertificate(f.CertFile, certPEM)
	}
	if err != nil {
		bad.Cert = fmt.Errorf("%w: %w", ErrTLSFile, err)
	}
	keyPEM, err := os.ReadFile(f.KeyFile)
	defer clear(keyPEM)
	if err == nil && bad.Cert == nil { // a key is understood only with its certificate
		if _, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
			err = fmt.Errorf("%s: %w", f.KeyFile, err)
		}
	}
	if err != nil {
		bad.Key = fmt.Errorf("%w: %w", ErrTLSFile, err)
	}
	return bad
}

// checkCertificate looks for certificates in PEM, all of which must parse.
func checkCertificate(file string, text []byte) error {
	found := false
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("%s has no certificate in PEM", file)
	}
	return nil
}
