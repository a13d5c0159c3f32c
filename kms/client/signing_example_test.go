package client_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
)

// A certificate request whose private key stays in the HSM, to be sent to an authority.
func ExampleClient_Signer() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/documents")
		if err != nil {
			return err
		}
		signer, err := c.Signer(ctx, key)
		if err != nil {
			return err
		}

		request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "documents"}, DNSNames: []string{"documents.example"},
			SignatureAlgorithm: signer.X509Algorithm(),
		}, signer)
		if err != nil {
			return err
		}
		encoded := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})

		block, _ := pem.Decode(encoded)
		parsed, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			return err
		}
		fmt.Println(parsed.Subject, parsed.DNSNames, parsed.SignatureAlgorithm, parsed.CheckSignature())
		return nil
	}))
	// Output: CN=documents [documents.example] ECDSA-SHA256 <nil>
}

// An authority whose private key stays in the HSM issues a certificate.
func ExampleSigner() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/documents")
		if err != nil {
			return err
		}
		signer, err := c.Signer(ctx, key)
		if err != nil {
			return err
		}

		now := time.Now()
		authority := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example authority"},
			NotBefore: now, NotAfter: now.AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
			SignatureAlgorithm: signer.X509Algorithm(),
		}
		root, err := x509.CreateCertificate(rand.Reader, authority, authority, signer.Public(), signer)
		if err != nil {
			return err
		}
		if authority, err = x509.ParseCertificate(root); err != nil {
			return err
		}

		holder, err := rsa.GenerateKey(rand.Reader, 2048) // whose certificate it is to be
		if err != nil {
			return err
		}
		issued, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(2), DNSNames: []string{"web.example"}, NotBefore: now, NotAfter: now.AddDate(0, 0, 30),
		}, authority, &holder.PublicKey, signer)
		if err != nil {
			return err
		}

		certificate, err := x509.ParseCertificate(issued)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AddCert(authority)
		_, err = certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: "web.example"})
		fmt.Println(certificate.Issuer, err)
		return nil
	}))
	// Output: CN=Example authority <nil>
}

// Anybody encrypts with the public key; only the HSM decrypts.
func ExampleClient_Decrypter() {
	report(withService(func(ctx context.Context, profile client.Profile) error {
		c, err := client.Dial(ctx, profile)
		if err != nil {
			return err
		}
		defer c.Close()
		key, err := kms.ParseKeyName("namespaces/default/keys/inbox")
		if err != nil {
			return err
		}
		decrypter, err := c.Decrypter(ctx, key)
		if err != nil {
			return err
		}

		public, ok := decrypter.Public().(*rsa.PublicKey)
		if !ok {
			return errors.New("not an RSA key")
		}
		ciphertext, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("to whom it may concern"), nil)
		if err != nil {
			return err
		}

		plaintext, err := decrypter.Decrypt(nil, ciphertext, &rsa.OAEPOptions{Hash: decrypter.Algorithm().Hash()})
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", plaintext)
		return nil
	}))
	// Output: to whom it may concern
}
