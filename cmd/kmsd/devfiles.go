package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"go.yaml.in/yaml/v3"

	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/client"
)

// devClient is the common name of the client certificate of kmsd dev.
const devClient = "dev"

// prepareTLS makes the authority and the certificates that are missing, and makes the
// client an administrator. The server's certificate is made again when the host to
// listen on is not one of its names.
func (d *devServer) prepareTLS() error {
	if err := os.MkdirAll(d.path("tls"), 0o700); err != nil {
		return as(errStorage, err)
	}
	ca, err := d.authority()
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(d.listen)
	if err != nil {
		return err
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		hosts = append(hosts, host)
	}
	server, err := goodCertificate(ca, d.conf.TLS.CertFile, d.conf.TLS.KeyFile)
	if err != nil || server.VerifyHostname(hosts[len(hosts)-1]) != nil {
		if err := ca.IssueServer(d.conf.TLS.CertFile, d.conf.TLS.KeyFile, hosts...); err != nil {
			return err
		}
	}
	principal, err := d.clientPrincipal(ca)
	if err != nil {
		return err
	}
	d.conf.Administrators = []string{principal}
	return nil
}

// authority opens the authority, or makes it. One that has a certificate and no key is
// what an interrupted start left behind.
func (d *devServer) authority() (*authn.LocalCA, error) {
	ca, err := authn.OpenLocalCA(d.path("tls"))
	if !errors.Is(err, os.ErrNotExist) {
		return ca, err
	}
	if err := os.Remove(d.conf.TLS.ClientCAFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, as(errStorage, err)
	}
	return authn.CreateLocalCA(d.path("tls"))
}

// clientPrincipal is the principal of the client certificate, which is made if it is missing.
func (d *devServer) clientPrincipal(ca *authn.LocalCA) (string, error) {
	certFile, keyFile := d.path("tls", "client.pem"), d.path("tls", "client-key.pem")
	cert, err := goodCertificate(ca, certFile, keyFile)
	if err != nil {
		return ca.IssueClient(certFile, keyFile, devClient)
	}
	return authn.CertificatePrincipal(cert)
}

// goodCertificate reads a certificate that belongs to its key, that the authority has
// signed and that has not expired.
func goodCertificate(ca *authn.LocalCA, certFile, keyFile string) (*x509.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(ca.CertFile())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return pair.Leaf, err
}

// writeProfiles writes the client profiles for the addresses in use, and returns the
// address for TLS.
func (d *devServer) writeProfiles(listeners []net.Listener) (address string, err error) {
	local := client.Profile{Address: "unix://" + d.conf.Listen.Unix}
	if err := d.writeProfile("profile.yaml", local); err != nil {
		return "", err
	}
	remote := client.Profile{
		CAFile:   d.path("tls", "ca.pem"),
		CertFile: d.path("tls", "client.pem"),
		KeyFile:  d.path("tls", "client-key.pem"),
	}
	for _, listener := range listeners {
		if listener.Addr().Network() == "tcp" {
			remote.Address = clientAddress(listener.Addr())
		}
	}
	return remote.Address, d.writeProfile("profile-tls.yaml", remote)
}

func (d *devServer) writeProfile(name string, p client.Profile) error {
	if err := p.Validate(); err != nil {
		return fmt.Errorf("client profile %s: %w", name, err)
	}
	text, err := yaml.Marshal(p)
	if err != nil {
		return err
	}
	return d.writeFile(name, append([]byte("# Written by kmsd dev at each start.\n"), text...))
}

// shortName is a name for the directory that two directories do not share.
func shortName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "keyholt-" + hex.EncodeToString(sum[:8])
}

// makeOwnDirectory makes a directory that nobody else can use, in one that others may
// write to. One that somebody else has made there is refused.
func makeOwnDirectory(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return as(errStorage, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return as(errStorage, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || info.Mode().Perm() != 0o700 || !ok || int(stat.Uid) != os.Geteuid() {
		return as(errStorage, fmt.Errorf("%s is not a directory of this user alone; delete it", path))
	}
	return nil
}
