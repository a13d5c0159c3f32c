package client

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/keyholt/keyholt/kms"
)

// ErrProfile is wrapped by the error of a profile that cannot be used as it is.
var ErrProfile = errors.New("invalid client profile")

// maxSocketPath is the longest path of a unix socket, in bytes: sun_path of sockaddr_un
// holds 108 on Linux and 104 on BSD and macOS, with a zero at the end.
const maxSocketPath = 103

// Profile says where the service is, and with which credentials to go there. As a
// file it is YAML:
//
//	address: kms.example.com:7443   # or dns:///kms.example.com:7443, or unix:///run/keyholt/kmsd.sock, or several
//	ca_file: ca.pem                 # who signed the server's certificate; default: the system's roots
//	cert_file: client.pem           # the client's certificate chain
//	key_file: client.key            # its private key
//	server_name: kms.example.com    # name in the server's certificate; default: the address's host
//	namespace: default              # for names that do not say one
//
// Replicas of one service may be named all, as "a.example.com:7443,b.example.com:7443":
// either all TCP or all unix sockets. A target of the dns scheme stands alone.
//
// A TCP address needs cert_file and key_file. A unix socket takes none of the TLS
// fields: there the server asks the kernel who the caller is.
type Profile struct {
	// Address is host:port, a gRPC target of the dns scheme, or unix:///path; or several
	// of the first or of the last, with commas between.
	Address string `yaml:"address,omitempty"`
	// CAFile holds PEM certificates that the server's chain must end at.
	CAFile string `yaml:"ca_file,omitempty"`
	// CertFile holds the client's certificate chain, leaf first, as PEM. It is read
	// again for each connection, so that it can be renewed in place; KeyFile too.
	CertFile string `yaml:"cert_file,omitempty"`
	// KeyFile holds the private key of CertFile's leaf as PEM.
	KeyFile string `yaml:"key_file,omitempty"`
	// ServerName is the name that the server's certificate must be for.
	ServerName string `yaml:"server_name,omitempty"`
	// Namespace is the default namespace; empty means "default".
	Namespace string `yaml:"namespace,omitempty"`
}

// Validate returns an error that wraps [ErrProfile] and names the field unless the
// profile can be dialled. It does not read the files.
func (p *Profile) Validate() error {
	if p.Namespace != "" {
		if _, err := kms.NewNamespaceName(p.Namespace); err != nil {
			return fmt.Errorf("%w: namespace: %v", ErrProfile, err)
		}
	}
	if p.Address == "" {
		return fmt.Errorf("%w: address is missing", ErrProfile)
	}
	all := p.Each() // one kind of address only: the credentials of the one mean nothing to the other
	for i := range all {
		if err := all[i].validateAddress(); err != nil {
			return err
		}
		if len(all) > 1 && strings.HasPrefix(all[i].Address, dnsScheme) {
			return fmt.Errorf("%w: address: %s stands alone, not in a list", ErrProfile, all[i].Address)
		}
	}
	return nil
}

// Each returns a profile for each address of the list alone.
func (p *Profile) Each() []Profile {
	addresses := strings.Split(p.Address, ",")
	each := make([]Profile, len(addresses))
	for i, address := range addresses {
		each[i] = *p
		each[i].Address = strings.TrimSpace(address)
	}
	return each
}

func (p *Profile) validateAddress() error {
	if p.Address == "" {
		return fmt.Errorf("%w: address: an empty one in a list", ErrProfile)
	}
	if p.IsUnix() {
		return p.validateUnix()
	}
	return p.validateTLS()
}

// IsUnix reports whether the address is a unix socket, or several.
func (p *Profile) IsUnix() bool { return strings.HasPrefix(strings.TrimSpace(p.Address), unixScheme) }

const (
	unixScheme = "unix:"
	dnsScheme  = "dns:"
)

func (p *Profile) validateUnix() error {
	path, ok := strings.CutPrefix(p.Address, unixScheme+"//")
	if !ok || !filepath.IsAbs(path) {
		return fmt.Errorf("%w: address %q: a unix socket is written unix:///absolute/path", ErrProfile, p.Address)
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("%w: address: the socket's path has %d bytes, the system allows %d",
			ErrProfile, len(path), maxSocketPath)
	}
	for _, field := range []struct{ name, value string }{
		{"ca_file", p.CAFile}, {"cert_file", p.CertFile}, {"key_file", p.KeyFile}, {"server_name", p.ServerName},
	} {
		if field.value != "" {
			return fmt.Errorf("%w: %s has no meaning for a unix socket, where the server asks the kernel "+
				"who the caller is", ErrProfile, field.name)
		}
	}
	return nil
}

// Endpoint is the address in package net's terms: "unix" and a path, or "tcp" and
// host:port. It is meaningful for a valid profile of one address, see Each.
func (p *Profile) Endpoint() (network, address string) {
	if p.IsUnix() {
		return "unix", strings.TrimPrefix(p.Address, unixScheme+"//")
	}
	if rest, ok := strings.CutPrefix(p.Address, dnsScheme); ok {
		return "tcp", rest[strings.LastIndex(rest, "/")+1:] // dns://resolver/host:port and dns:host:port
	}
	return "tcp", p.Address
}

func (p *Profile) validateTLS() error {
	_, endpoint := p.Endpoint()
	if scheme, _, found := strings.Cut(endpoint, "://"); found {
		return fmt.Errorf("%w: address: scheme %q is not known, use host:port, dns:///host:port or unix:///path",
			ErrProfile, scheme)
	}
	if strings.HasPrefix(endpoint, "/") {
		return fmt.Errorf("%w: address %q: a unix socket is written unix:///absolute/path", ErrProfile, p.Address)
	}
	if _, port, err := net.SplitHostPort(endpoint); err != nil || port == "" {
		return fmt.Errorf("%w: address %q: want host:port", ErrProfile, p.Address)
	}
	if p.CertFile == "" || p.KeyFile == "" {
		return fmt.Errorf("%w: cert_file and key_file are required for %s: the service admits nobody over TCP "+
			"without a client certificate", ErrProfile, p.Address)
	}
	return nil
}

// DefaultNamespace is the namespace of the profile, or "default". It is zero if the
// profile's is malformed.
func (p *Profile) DefaultNamespace() kms.NamespaceName {
	id := p.Namespace
	if id == "" {
		id = kms.DefaultNamespace
	}
	name, err := kms.NewNamespaceName(id)
	if err != nil {
		return kms.NamespaceName{}
	}
	return name
}
