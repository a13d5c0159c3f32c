package client_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// Certificate requests, authorities and certificates with keys of each algorithm, and TLS
// 1.3 servers that use them.
func TestCertificates(t *testing.T) {
	c := dial(t, startServer(t).unix)
	for _, a := range signingAlgorithms() {
		signer, err := c.Signer(t.Context(), makeKey(t, c, a))
		must(t, err)

		requested, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "web"}, DNSNames: []string{"web.example"}, SignatureAlgorithm: signer.X509Algorithm(),
		}, signer)
		must(t, err)
		request, err := x509.ParseCertificateRequest(requested)
		must(t, err)
		if err := request.CheckSignature(); err != nil || request.SignatureAlgorithm != signer.X509Algorithm() {
			t.Errorf("%s: a request signed with %s: %v", a, request.SignatureAlgorithm, err)
		}

		now := time.Now()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
			SignatureAlgorithm: signer.X509Algorithm(),
		}
		made, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
		must(t, err)
		authority, err := x509.ParseCertificate(made)
		must(t, err)
		roots := x509.NewCertPool()
		roots.AddCert(authority)
		issued, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: request.Subject, DNSNames: request.DNSNames,
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), SignatureAlgorithm: signer.X509Algorithm(),
		}, authority, request.PublicKey, signer)
		must(t, err)
		leaf, err := x509.ParseCertificate(issued)
		must(t, err)
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "web.example", Roots: roots}); err != nil {
			t.Errorf("%s: %v", a, err)
		}

		if name := a.String(); len(name) > 14 && name[:14] == "RSA_SIGN_PKCS1" {
			continue // TLS 1.3 has no such signatures
		}
		handshake(t, a, tls.Certificate{
			Certificate: [][]byte{issued}, PrivateKey: signer,
			SupportedSignatureAlgorithms: []tls.SignatureScheme{signer.TLSScheme()},
		}, roots)
	}
}

func handshake(t *testing.T, a kms.Algorithm, certificate tls.Certificate, roots *x509.CertPool) {
	t.Helper()
	near, far := net.Pipe()
	server := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13})
	done := make(chan error, 1)
	go func() {
		_, err := server.Write([]byte("hello"))
		done <- err
		_ = server.Close()
	}()
	connection := tls.Client(far, &tls.Config{RootCAs: roots, ServerName: "web.example", MinVersion: tls.VersionTLS13})
	got, err := io.ReadAll(connection)
	if err != nil || !bytes.Equal(got, []byte("hello")) {
		t.Errorf("%s: TLS: %q, %v", a, got, err)
	}
	_ = far.Close()
	if err := <-done; err != nil {
		t.Errorf("%s: TLS server: %v", a, err)
	}
}
