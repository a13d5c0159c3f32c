package softhsmtest_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

const serverName = "web.example"

// authority issues certificates with a key of the service.
type authority struct {
	*surface
	signer      *client.Signer
	certificate *x509.Certificate
	serial      int64
}

// newAuthority makes an authority that has signed its own certificate, ca.pem.
func (s *surface) newAuthority(signer *client.Signer) *authority {
	s.Helper()
	a := &authority{surface: s, signer: signer}
	template := a.template("authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der := a.issue(template, template, signer.Public())
	a.writeCertificate("ca.pem", der)
	var err error
	a.certificate, err = x509.ParseCertificate(der)
	s.must(err)
	return a
}

func (a *authority) template(name string) *x509.Certificate {
	a.serial++
	return &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		SignatureAlgorithm: a.signer.X509Algorithm(),
	}
}

func (a *authority) issue(template, parent *x509.Certificate, public any) []byte {
	a.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.signer)
	a.must(err)
	return der
}

func (a *authority) writeCertificate(file string, der []byte) {
	a.Helper()
	a.write(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// request makes a certificate request by a key of the service, which OpenSSL verifies, and
// issues what it asks for: web.pem.
func (a *authority) request(by *client.Signer) []byte {
	a.Helper()
	asked, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "web"}, DNSNames: []string{serverName}, SignatureAlgorithm: by.X509Algorithm(),
	}, by)
	a.must(err)
	a.write("web.csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: asked}))
	a.run("req", "-verify", "-noout", "-in", "web.csr")
	parsed, err := x509.ParseCertificateRequest(asked)
	a.must(err)
	template := a.template("web")
	template.DNSNames, template.ExtKeyUsage = parsed.DNSNames, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	der := a.issue(template, a.certificate, parsed.PublicKey)
	a.writeCertificate("web.pem", der)
	return der
}

// Certificates and requests that are signed in the HSM are accepted by OpenSSL, and TLS 1.3
// servers whose key is in the HSM by Go's client and by OpenSSL's.
func TestCertificatesAndTLS(t *testing.T) {
	t.Parallel()
	s := newSurface(t)
	served := 0
	for _, algorithm := range []kms.Algorithm{
		kms.AlgorithmECP256SHA256, kms.AlgorithmECP384SHA384, kms.AlgorithmECP521SHA512, kms.AlgorithmEd25519,
		kms.AlgorithmRSA2048PKCS1SHA256, kms.AlgorithmRSA2048PKCS1SHA512,
		kms.AlgorithmRSA2048PSSSHA256, kms.AlgorithmRSA2048PSSSHA384, kms.AlgorithmRSA2048PSSSHA512,
	} {
		signer := s.signer(algorithm)
		a := s.newAuthority(signer)
		der := a.request(signer)
		if out := string(s.run("verify", "-CAfile", "ca.pem", "-purpose", "sslserver", "-verify_hostname", serverName, "web.pem")); out != "web.pem: OK\n" {
			t.Errorf("%s: openssl verify: %s", algorithm, out)
		}
		if !algorithm.IsPSS() && algorithm.KeySpec(0).IsRSA() {
			continue // RFC 8446, section 4.2.3: not for handshakes
		}
		a.serves(&tls.Certificate{
			Certificate: [][]byte{der}, PrivateKey: signer,
			SupportedSignatureAlgorithms: []tls.SignatureScheme{signer.TLSScheme()},
		})
		served++
	}
	if served != 7 {
		t.Errorf("%d servers", served)
	}
}

// serves has a server shake hands with a client of Go's and one of OpenSSL's.
func (a *authority) serves(certificate *tls.Certificate) {
	a.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS13,
	})
	a.must(err)
	greeted := make(chan error, 2) // for one client after the other
	go func() {
		defer close(greeted)
		for {
			connection, err := listener.Accept()
			if err != nil {
				return // closed
			}
			greeted <- greet(connection)
		}
	}()
	defer func() { a.must(listener.Close()) }()
	roots := x509.NewCertPool()
	roots.AddCert(a.certificate)
	connection, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: roots, ServerName: serverName})
	a.must(err)
	a.must(<-greeted)
	got, err := io.ReadAll(connection)
	a.must(err)
	a.must(connection.Close())
	if string(got) != greeting {
		a.Errorf("%s: Go's client got %q", a.signer.Algorithm(), got)
	}
	out := a.run("s_client", "-connect", listener.Addr().String(), "-servername", serverName,
		"-verify_hostname", serverName, "-CAfile", "ca.pem", "-verify_return_error", "-quiet", "-tls1_3")
	a.must(<-greeted)
	if !strings.Contains(string(out), greeting) {
		a.Errorf("%s: openssl s_client got %q", a.signer.Algorithm(), out)
	}
}

const greeting = "signed in the HSM"

func greet(connection net.Conn) error {
	_, err := io.WriteString(connection, greeting)
	if closeErr := connection.Close(); err == nil {
		err = closeErr
	}
	return err
}
