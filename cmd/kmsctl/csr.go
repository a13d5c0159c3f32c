package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms/client"
)

// requestFlags are those of a certificate request.
type requestFlags struct {
	subject          string
	dns, emails, ips []string
	uris             []string
}

func newCSR(a *app) *cobra.Command {
	var (
		f      requestFlags
		out    string
		force  bool
		number uint32
	)
	cmd := &cobra.Command{
		Use:   "csr KEY --subject NAME",
		Short: "Make a certificate request with a signing key",
		Long: `Make a certificate request (PKCS #10, in PEM) for the public key of a version of an
ASYMMETRIC_SIGN key, signed by its private key, which stays in the HSM.

NAME is written as RFC 4514 has it: CN=web,O=Example\, Inc.,C=DE. Attributes: CN, O, OU, C,
ST, L, STREET, POSTALCODE, SERIALNUMBER.`,
		Example:           `  kmsctl csr web --subject CN=web.example.com,O=Example --dns web.example.com --out web.csr`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.subject, "subject", "", "distinguished name of the subject; required, unless there is another name")
	flags.StringArrayVar(&f.dns, "dns", nil, "DNS name; may be repeated")
	flags.StringArrayVar(&f.emails, "email", nil, "mail address; may be repeated")
	flags.StringArrayVar(&f.ips, "ip", nil, "IP address; may be repeated")
	flags.StringArrayVar(&f.uris, "uri", nil, "URI, such as a SPIFFE ID; may be repeated")
	flags.StringVar(&out, "out", "", "output file, which appears when it is complete; default or -: standard output")
	flags.BoolVar(&force, "force", false, "replace the output file if it exists")
	addVersionNumber(cmd, &number)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		named, err := parseNamed(args[0], number, conn.namespace)
		if err != nil {
			return err
		}
		template, err := f.template()
		if err != nil {
			return err
		}
		find := func() (*client.Signer, error) { return conn.Signer(ctx, named.key) }
		if !named.version.IsZero() {
			find = func() (*client.Signer, error) { return conn.VersionSigner(ctx, named.version) }
		}
		signer, err := find()
		if err != nil {
			return err
		}
		template.SignatureAlgorithm = signer.X509Algorithm()
		request, err := x509.CreateCertificateRequest(rand.Reader, template, signer.WithContext(ctx))
		if err != nil {
			return err
		}
		return a.writeOut(ctx, out, force, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	})
	return cmd
}

// template is what the request asks for.
func (f *requestFlags) template() (*x509.CertificateRequest, error) {
	subject, err := parseSubject(f.subject)
	if err != nil {
		return nil, usagef("--subject %q: %v", f.subject, err)
	}
	t := &x509.CertificateRequest{Subject: subject, DNSNames: f.dns, EmailAddresses: f.emails}
	for _, text := range f.ips {
		ip := net.ParseIP(text)
		if ip == nil {
			return nil, usagef("--ip %q: want an IP address", text)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	for _, text := range f.uris {
		uri, err := url.Parse(text)
		if err != nil || !uri.IsAbs() {
			return nil, usagef("--uri %q: want an absolute URI", text)
		}
		t.URIs = append(t.URIs, uri)
	}
	if f.subject == "" && len(t.DNSNames)+len(t.EmailAddresses)+len(t.IPAddresses)+len(t.URIs) == 0 {
		return nil, usagef("--subject NAME is required, or --dns, --email, --ip or --uri: the certificate is to be for somebody")
	}
	return t, nil
}
