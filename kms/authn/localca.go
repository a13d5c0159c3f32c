package authn

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The files of a local authority.
const (
	localCACert = "ca.pem"
	localCAKey  = "ca-key.pem"
)

// localCAYears is for how long the certificates of a local authority are good.
const localCAYears = 10

// LocalCA is a certificate authority for development, whose key lies in a file. It is
// not for production: nothing protects the key but the file's mode.
type LocalCA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// CreateLocalCA makes an authority (ECDSA P-256) with the files ca.pem and ca-key.pem,
// both of mode 0600, in dir, which must exist. If one of them exists already the error
// matches [fs.ErrExist] and nothing is changed.
func CreateLocalCA(dir string) (*LocalCA, error) {
	for _, name := range []string{localCACert, localCAKey} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return nil, fmt.Errorf("%w: %w", ErrTLSFile,
				&fs.PathError{Op: "create", Path: filepath.Join(dir, name), Err: fs.ErrExist})
		}
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Keyholt local CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	pair, err := issue(template, nil)
	if err != nil {
		return nil, err
	}
	// The key comes last: an authority is complete when it has one.
	if err := writeNew(filepath.Join(dir, localCACert), pair.certPEM); err != nil {
		return nil, err
	}
	if err := writeNew(filepath.Join(dir, localCAKey), pair.keyPEM); err != nil {
		return nil, err
	}
	return &LocalCA{dir, pair.cert, pair.key}, nil
}

// OpenLocalCA reads an authority that [CreateLocalCA] made. If there is none the error
// matches [fs.ErrNotExist].
func OpenLocalCA(dir string) (*LocalCA, error) {
	pair, err := loadKeyPair(filepath.Join(dir, localCACert), filepath.Join(dir, localCAKey))
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("%w: %s is not a local authority", ErrTLSFile, filepath.Join(dir, localCACert))
	}
	return &LocalCA{dir, pair.Leaf, key}, nil
}

// CertFile is the file of the authority's certificate, which both sides need.
func (ca *LocalCA) CertFile() string { return filepath.Join(ca.dir, localCACert) }

// IssueServer writes a new server certificate for the hosts (names or addresses; none:
// localhost, 127.0.0.1 and ::1) and its key, replacing files that exist. Mode 0600.
func (ca *LocalCA) IssueServer(certFile, keyFile string, hosts ...string) error {
	if len(hosts) == 0 {
		hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0]},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	_, err := ca.issue(template, certFile, keyFile)
	return err
}

// IssueClient writes a new client certificate with the common name and its key, replacing
// files that exist, and returns the name of the principal that it is for. Mode 0600.
func (ca *LocalCA) IssueClient(certFile, keyFile, commonName string) (principal string, err error) {
	cert, err := ca.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, certFile, keyFile)
	if err != nil {
		return "", err
	}
	return CertificatePrincipal(cert)
}

func (ca *LocalCA) issue(template *x509.Certificate, certFile, keyFile string) (*x509.Certificate, error) {
	pair, err := issue(template, ca)
	if err != nil {
		return nil, err
	}
	if err := replace(keyFile, pair.keyPEM); err != nil {
		return nil, err
	}
	if err := replace(certFile, pair.certPEM); err != nil {
		return nil, err
	}
	return pair.cert, nil
}

// keyPair is a new certificate and its key.
type keyPair struct {
	cert            *x509.Certificate
	key             *ecdsa.PrivateKey
	certPEM, keyPEM []byte
}

// issue makes a key pair, signed by ca, or by itself if that is nil.
func issue(template *x509.Certificate, ca *LocalCA) (*keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	// A serial number is left out: x509 draws a random one. An hour for clocks that are late.
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.AddDate(localCAYears, 0, 0)
	}
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.cert, ca.key
		if template.NotAfter.After(parent.NotAfter) {
			template.NotAfter = parent.NotAfter
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &keyPair{
		cert:    cert,
		key:     key,
		certPEM: encodePEM("CERTIFICATE", der),
		keyPEM:  encodePEM("PRIVATE KEY", keyDER),
	}, nil
}
