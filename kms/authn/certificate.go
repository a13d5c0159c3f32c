package authn

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/url"

	"google.golang.org/grpc/credentials"

	"github.com/keyholt/keyholt/kms"
)

// tlsIdentity makes a principal of the verified client certificate of a connection.
func tlsIdentity(info credentials.TLSInfo, address net.Addr) (*AuthInfo, error) {
	if len(info.State.VerifiedChains) == 0 || len(info.State.PeerCertificates) == 0 {
		return nil, fmt.Errorf("%w: no verified client certificate", ErrHandshake)
	}
	leaf := info.State.PeerCertificates[0]
	name, err := CertificatePrincipal(leaf)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	principal := kms.Principal{Name: name, Method: kms.MethodTLS}
	if address != nil {
		principal.Address = address.String()
	}
	return &AuthInfo{
		CommonAuthInfo: info.CommonAuthInfo,
		Principal:      principal,
		Expires:        leaf.NotAfter,
	}, nil
}

// CertificatePrincipal is the name of the principal that a certificate is for: its
// SPIFFE ID, as "spiffe://example.org/billing", or else "x509:" and its subject in the
// form of RFC 2253, as "x509:CN=billing,O=Example".
//
// A certificate with a SPIFFE ID has no other URI among its names: X509-SVID, section 2,
// wants such a one rejected. One with neither a SPIFFE ID nor a subject names nobody.
func CertificatePrincipal(cert *x509.Certificate) (string, error) {
	for _, uri := range cert.URIs {
		if uri.Scheme != "spiffe" {
			continue
		}
		if len(cert.URIs) > 1 {
			return "", fmt.Errorf("the client certificate has a SPIFFE ID and %d other URIs", len(cert.URIs)-1)
		}
		return spiffeID(uri)
	}
	// The parsed subject keeps only the last of several common names, and forgets the
	// order; two subjects must not become one name.
	var subject pkix.RDNSequence
	rest, err := asn1.Unmarshal(cert.RawSubject, &subject)
	if err != nil || len(rest) > 0 {
		return "", fmt.Errorf("the subject of the client certificate does not parse")
	}
	if len(subject) == 0 {
		return "", fmt.Errorf("the client certificate has neither a subject nor a SPIFFE ID")
	}
	return "x509:" + subject.String(), nil
}

// spiffeID checks the parts that the SPIFFE-ID standard, section 2, forbids.
func spiffeID(uri *url.URL) (string, error) {
	if uri.Host == "" || uri.Host != uri.Hostname() || uri.User != nil || uri.RawQuery != "" ||
		uri.ForceQuery || uri.Fragment != "" || uri.Opaque != "" {
		return "", fmt.Errorf("%q is not a SPIFFE ID", uri)
	}
	return uri.String(), nil
}
