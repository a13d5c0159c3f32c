package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyholt/keyholt/kms/authn"
	"github.com/keyholt/keyholt/kms/client"
)

// What a person is told about a connection that does not come about.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	ca := newCA(t, filepath.Join(dir, "ca"))
	other := newCA(t, filepath.Join(dir, "other"))
	file := func(name string) string { return filepath.Join(dir, name) }
	mustNot(t, ca.IssueServer(file("server.pem"), file("server.key"), "127.0.0.1", "kms.example.com"))
	for name, issuer := range map[string]*authn.LocalCA{"client": ca, "foreign": other} {
		_, err := issuer.IssueClient(file(name+".pem"), file(name+".key"), name)
		mustNot(t, err)
	}
	tlsConfig, err := authn.ServerTLS(authn.TLSFiles{
		CertFile: file("server.pem"), KeyFile: file("server.key"), ClientCAFile: ca.CertFile(),
	}, nil)
	mustNot(t, err)
	tlsConfig.NextProtos = []string{"h2"}
	good := client.Profile{
		Address:  accept(t, "tcp", "127.0.0.1:0", tlsConfig),
		CAFile:   ca.CertFile(),
		CertFile: file("client.pem"), KeyFile: file("client.key"),
	}
	with := func(change func(*client.Profile)) client.Profile {
		p := good
		change(&p)
		return p
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	mustNot(t, err)
	mustNot(t, closed.Close())

	tests := map[string]struct {
		profile client.Profile
		want    string // empty: a connection
	}{
		"good":         {good, ""},
		"by its name":  {with(func(p *client.Profile) { p.ServerName = "kms.example.com" }), ""},
		"dns target":   {with(func(p *client.Profile) { p.Address = "dns:///" + p.Address }), ""},
		"other name":   {with(func(p *client.Profile) { p.ServerName = "kms.example.org" }), "is for another name"},
		"other CA":     {with(func(p *client.Profile) { p.CAFile = other.CertFile() }), "not trusted"},
		"refused":      {with(func(p *client.Profile) { p.Address = closed.Addr().String() }), "connection refused"},
		"bad port":     {with(func(p *client.Profile) { p.Address = "127.0.0.1:99999" }), "127.0.0.1:99999 is no address"},
		"unknown host": {with(func(p *client.Profile) { p.Address = "kms.invalid:7443" }), "not known to the resolver"},
		"other client": {
			with(func(p *client.Profile) { p.CertFile, p.KeyFile = file("foreign.pem"), file("foreign.key") }),
			"unknown certificate authority",
		},
		"no TLS": {
			with(func(p *client.Profile) { p.Address = accept(t, "tcp", "127.0.0.1:0", nil) }), "does not speak TLS",
		},
		"unix":      {client.Profile{Address: "unix://" + accept(t, "unix", file("s"), nil)}, ""},
		"no socket": {client.Profile{Address: "unix://" + file("none")}, "there is no socket"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			state, err := probe(ctx, test.profile)
			if test.want == "" {
				if err != nil || test.profile.IsUnix() != (state == nil) {
					t.Errorf("got %v, %v", state, err)
				}
				return
			}
			if err == nil {
				t.Fatal("there is a connection")
			}
			x := explainProbe(test.profile, err)
			if !strings.Contains(x.cause, test.want) || x.next == "" {
				t.Errorf("%v is explained as %+v, want %q", err, x, test.want)
			}
		})
	}
}

func newCA(t *testing.T, dir string) *authn.LocalCA {
	t.Helper()
	mustNot(t, os.Mkdir(dir, 0o700))
	ca, err := authn.CreateLocalCA(dir)
	mustNot(t, err)
	return ca
}

func mustNot(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// accept says something to whoever connects, as an HTTP/2 server does.
func accept(t *testing.T, network, address string, config *tls.Config) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	mustNot(t, err)
	if config != nil {
		listener = tls.NewListener(listener, config)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			_, _ = conn.Write([]byte("settings of a server")) // fails where the handshake does
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		mustNot(t, listener.Close())
		<-done
	})
	return listener.Addr().String()
}
