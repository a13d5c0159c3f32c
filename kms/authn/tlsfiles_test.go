package authn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// seen is the server certificate that a client was shown.
func seen(t *testing.T, config *tls.Config, client *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	var shown *x509.Certificate
	client.VerifyConnection = func(state tls.ConnectionState) error {
		shown = state.PeerCertificates[0]
		return nil
	}
	server, err := connect(t, ServerCredentials(config), "tcp", client)
	if server.err != nil {
		return shown, server.err
	}
	return shown, err
}

func TestServerTLSReloads(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	var reloads []error
	config, err := ServerTLS(a.serverFiles(), func(err error) { reloads = append(reloads, err) })
	if err != nil {
		t.Fatal(err)
	}
	first, err := seen(t, config, a.client(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(reloads) != 0 {
		t.Fatalf("%d reloads of files that did not change", len(reloads))
	}

	// A new certificate is shown to the next connection.
	if err := a.ca.IssueServer(a.path("server.pem"), a.path("server-key.pem")); err != nil {
		t.Fatal(err)
	}
	second, err := seen(t, config, a.client(t))
	if err != nil {
		t.Fatal(err)
	}
	if second.Equal(first) || len(reloads) != 1 || reloads[0] != nil {
		t.Fatalf("same certificate: %v; reloads: %v", second.Equal(first), reloads)
	}

	// A broken file is reported once, and the certificate stays.
	good, err := os.ReadFile(a.path("server.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(a.path("server.pem"), []byte("broken")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		third, err := seen(t, config, a.client(t))
		if err != nil || !third.Equal(second) {
			t.Fatalf("after a broken file: %v", err)
		}
	}
	if len(reloads) != 2 || !errors.Is(reloads[1], ErrTLSFile) {
		t.Fatalf("reloads: %v", reloads)
	}
	if err := replace(a.path("server.pem"), good); err != nil {
		t.Fatal(err)
	}

	// The authorities of clients change too: what was trusted is not any more.
	text, err := os.ReadFile(other.ca.CertFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := replace(a.ca.CertFile(), text); err != nil {
		t.Fatal(err)
	}
	client := newAuthorityClient(t, a, other, second)
	if _, err := seen(t, config, client); err == nil {
		t.Error("a client of the former authority was let in")
	}
}

// newAuthorityClient is a's client, trusting the server by its certificate since a's
// authority file now is other's.
func newAuthorityClient(t *testing.T, a, other *authority, server *x509.Certificate) *tls.Config {
	t.Helper()
	config := other.client(t)
	cert, err := loadKeyPair(a.path("client.pem"), a.path("client-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{cert}
	config.RootCAs = x509.NewCertPool()
	config.RootCAs.AddCert(server)
	return config
}

func TestServerTLSFiles(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	good := a.serverFiles()
	broken := a.path("broken.pem")
	if err := os.WriteFile(broken, []byte("-----BEGIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]TLSFiles{
		"no certificate":           {a.path("none"), good.KeyFile, good.ClientCAFile},
		"no key":                   {good.CertFile, a.path("none"), good.ClientCAFile},
		"no authorities":           {good.CertFile, good.KeyFile, a.path("none")},
		"unset":                    {},
		"broken certificate":       {broken, good.KeyFile, good.ClientCAFile},
		"broken key":               {good.CertFile, broken, good.ClientCAFile},
		"broken authorities":       {good.CertFile, good.KeyFile, broken},
		"key of another":           {good.CertFile, other.path("server-key.pem"), good.ClientCAFile},
		"a directory":              {a.dir, good.KeyFile, good.ClientCAFile},
		"certificate and key swap": {good.KeyFile, good.CertFile, good.ClientCAFile},
	} {
		if _, err := ServerTLS(files, nil); !errors.Is(err, ErrTLSFile) {
			t.Errorf("%s: error %v, want ErrTLSFile", name, err)
		}
		if bad := files.Check(); bad == (TLSFileErrors{}) {
			t.Errorf("%s: Check finds nothing", name)
		}
	}
	if bad := good.Check(); bad != (TLSFileErrors{}) {
		t.Errorf("good files: %v", bad)
	}
	if _, err := ClientTLS(ClientTLSFiles{CertFile: good.CertFile, KeyFile: good.KeyFile}); !errors.Is(err, ErrTLSFile) {
		t.Errorf("a client without authorities: %v", err)
	}
}

// TestCheckTLSFiles: each file is found fault with for itself.
func TestCheckTLSFiles(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	good := a.serverFiles()
	none := a.path("none")
	for name, test := range map[string]struct {
		files               TLSFiles
		cert, key, clientCA bool // at fault
	}{
		"none at all":             {TLSFiles{none, none, none}, true, true, true},
		"no key":                  {TLSFiles{good.CertFile, none, good.ClientCAFile}, false, true, false},
		"key of another":          {TLSFiles{good.CertFile, other.path("server-key.pem"), good.ClientCAFile}, false, true, false},
		"certificate for a key":   {TLSFiles{good.CertFile, good.CertFile, good.ClientCAFile}, false, true, false},
		"key for a certificate":   {TLSFiles{good.KeyFile, good.KeyFile, good.ClientCAFile}, true, false, false},
		"key for the authorities": {TLSFiles{good.CertFile, good.KeyFile, good.KeyFile}, false, false, true},
		"authorities and no key":  {TLSFiles{good.CertFile, none, good.KeyFile}, false, true, true},
	} {
		bad := test.files.Check()
		for file, c := range map[string]struct {
			err   error
			fault bool
		}{"certificate": {bad.Cert, test.cert}, "key": {bad.Key, test.key}, "authorities": {bad.ClientCA, test.clientCA}} {
			if errors.Is(c.err, ErrTLSFile) != c.fault {
				t.Errorf("%s: %s: %v", name, file, c.err)
			}
		}
	}
}

func TestLocalCA(t *testing.T) {
	a := newAuthority(t)
	for _, name := range []string{"ca.pem", "ca-key.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"} {
		info, err := os.Stat(a.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	entries, err := os.ReadDir(a.dir)
	if err != nil || len(entries) != 6 {
		t.Errorf("%d files, %v: something was left behind", len(entries), err)
	}

	if _, err := CreateLocalCA(a.dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second authority in one place: %v", err)
	}
	if _, err := OpenLocalCA(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an authority in an empty directory: %v", err)
	}

	again, err := OpenLocalCA(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	principal, err := again.IssueClient(a.path("client.pem"), a.path("client-key.pem"), "orders")
	if err != nil || principal != "x509:CN=orders" {
		t.Fatalf("%q, %v", principal, err)
	}
	if err := again.IssueServer(a.path("server.pem"), a.path("server-key.pem"), "kms.example.org", "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	pair, err := loadKeyPair(a.path("server.pem"), a.path("server-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for host, ok := range map[string]bool{"kms.example.org": true, "192.0.2.1": true, "localhost": false} {
		if err := pair.Leaf.VerifyHostname(host); (err == nil) != ok {
			t.Errorf("host %s: %v", host, err)
		}
	}

	// A client's key pair is no authority, wherever it lies.
	dir := t.TempDir()
	for from, to := range map[string]string{"client.pem": localCACert, "client-key.pem": localCAKey} {
		if err := os.Rename(a.path(from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OpenLocalCA(dir); !errors.Is(err, ErrTLSFile) {
		t.Errorf("a client as an authority: %v", err)
	}
}
