package authn

import (
	"crypto/tls"
)

// ClientTLSFiles are the PEM files of a client.
type ClientTLSFiles struct {
	CertFile     string // the client's certificate, then its intermediates
	KeyFile      string // its private key
	ServerCAFile string // the authorities whose server certificates are accepted
	// ServerName is the name to look for in the server's certificate; empty: that of
	// the address which is connected to.
	ServerName string
}

// ClientTLS returns the configuration of a client that proves itself to a server of
// [ServerTLS]. The files are read once.
func ClientTLS(files ClientTLSFiles) (*tls.Config, error) {
	cert, err := loadKeyPair(files.CertFile, files.KeyFile)
	if err != nil {
		return nil, err
	}
	servers, err := loadAuthorities(files.ServerCAFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		RootCAs:      servers,
		ServerName:   files.ServerName,
		NextProtos:   []string{"h2"},
	}, nil
}
