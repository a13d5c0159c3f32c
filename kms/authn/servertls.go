package authn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// ErrTLSFile says that a certificate or key file cannot be read, or does not hold what it
// should.
var ErrTLSFile = errors.New("TLS file")

// TLSFiles are the PEM files of a server.
type TLSFiles struct {
	CertFile     string // the server's certificate, then its intermediates
	KeyFile      string // its private key
	ClientCAFile string // the authorities whose client certificates are accepted
}

// ServerTLS returns a configuration that takes TLS 1.3 only, and only from clients with
// a certificate of one of the authorities. The files are read at once, and again for the
// next connection after one of them has changed. If that fails the files read before
// stay in use. onReload is told of each attempt to read changed files, with nil if it
// succeeded; it may be nil. A file that does not change any more is not read again.
//
// There is no session resumption: it would take a client's word for a certificate that
// was verified against the files of that time.
func ServerTLS(files TLSFiles, onReload func(error)) (*tls.Config, error) {
	if onReload == nil {
		onReload = func(error) {}
	}
	r := &reloader{files: files, onReload: onReload}
	stamp, err := r.files.stamp()
	if err != nil {
		return nil, err
	}
	if r.config, err = r.files.load(); err != nil {
		return nil, err
	}
	r.stamp = stamp
	config := r.config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.current(), nil }
	return config, nil
}

// reloader holds what was read last.
type reloader struct {
	files    TLSFiles
	onReload func(error)

	mu     sync.Mutex
	stamp  stamp // of the files at the last attempt
	config *tls.Config
}

func (r *reloader) current() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp, err := r.files.stamp()
	if err == nil && stamp == r.stamp {
		return r.config
	}
	if err == nil {
		// Taken before the files are read: a change in between is found the next time.
		r.stamp = stamp
		var config *tls.Config
		if config, err = r.files.load(); err == nil {
			r.config = config
		}
	}
	r.onReload(err)
	return r.config
}

// stamp tells whether files have changed since they were read.
type stamp [3]struct {
	modified time.Time
	size     int64
}

func (f TLSFiles) stamp() (stamp, error) {
	var s stamp
	for i, name := range []string{f.CertFile, f.KeyFile, f.ClientCAFile} {
		info, err := os.Stat(name)
		if err != nil {
			return stamp{}, fmt.Errorf("%w: %w", ErrTLSFile, err)
		}
		s[i].modified, s[i].size = info.ModTime(), info.Size()
	}
	return s, nil
}

func (f TLSFiles) load() (*tls.Config, error) {
	cert, err := loadKeyPair(f.CertFile, f.KeyFile)
	if err != nil {
		return nil, err
	}
	clients, err := loadAuthorities(f.ClientCAFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{cert},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              clients,
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true,
	}, nil
}

func loadKeyPair(certFile, keyFile string) (tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w: %w", ErrTLSFile, err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w: %w", ErrTLSFile, err)
	}
	defer clear(keyPEM)
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w: %s and %s: %w", ErrTLSFile, certFile, keyFile, err)
	}
	return cert, nil
}

func loadAuthorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTLSFile, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: %s has no certificate in PEM", ErrTLSFile, file)
	}
	return pool, nil
}
