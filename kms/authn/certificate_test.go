package authn

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"testing"
)

func TestCertificatePrincipal(t *testing.T) {
	ca, err := CreateLocalCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	uris := func(texts ...string) []*url.URL {
		list := make([]*url.URL, len(texts))
		for i, text := range texts {
			if list[i], err = url.Parse(text); err != nil {
				t.Fatal(err)
			}
		}
		return list
	}
	commonName := asn1.ObjectIdentifier{2, 5, 4, 3}
	tests := []struct {
		name     string
		template x509.Certificate
		want     string // empty: refused
	}{
		{"subject", x509.Certificate{
			Subject: pkix.Name{CommonName: "billing", Organization: []string{"Example"}, Country: []string{"CH"}},
		}, "x509:CN=billing,O=Example,C=CH"},
		{"separators are escaped", x509.Certificate{
			Subject: pkix.Name{CommonName: "a,O=Example", Organization: []string{"Other"}},
		}, `x509:CN=a\,O=Example,O=Other`},
		{"each common name counts", x509.Certificate{
			Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
				{Type: commonName, Value: "one"}, {Type: commonName, Value: "admin"},
			}},
		}, "x509:CN=admin,CN=one"},
		{"SPIFFE ID before subject", x509.Certificate{
			Subject: pkix.Name{CommonName: "billing"},
			URIs:    uris("spiffe://example.org/ns/shop/sa/billing"),
		}, "spiffe://example.org/ns/shop/sa/billing"},
		{"other URI", x509.Certificate{
			Subject: pkix.Name{CommonName: "billing"},
			URIs:    uris("https://example.org/"),
		}, "x509:CN=billing"},
		{"two SPIFFE IDs", x509.Certificate{
			Subject: pkix.Name{CommonName: "billing"},
			URIs:    uris("spiffe://example.org/a", "spiffe://example.org/b"),
		}, ""},
		{"SPIFFE ID and another URI", x509.Certificate{
			Subject: pkix.Name{CommonName: "billing"},
			URIs:    uris("https://example.org/", "spiffe://example.org/a"),
		}, ""},
		{"SPIFFE ID with a port", x509.Certificate{URIs: uris("spiffe://example.org:443/a")}, ""},
		{"SPIFFE ID with a query", x509.Certificate{URIs: uris("spiffe://example.org/a?b=c")}, ""},
		{"SPIFFE ID with a user", x509.Certificate{URIs: uris("spiffe://root@example.org/a")}, ""},
		{"SPIFFE ID without a trust domain", x509.Certificate{URIs: uris("spiffe:///a")}, ""},
		{"nothing", x509.Certificate{DNSNames: []string{"example.org"}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pair, err := issue(&test.template, ca)
			if err != nil {
				t.Fatal(err)
			}
			got, err := CertificatePrincipal(pair.cert)
			if got != test.want || (err != nil) != (test.want == "") {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}
		})
	}
}
