package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLoadProfile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "profile.yaml")
	write(t, path, `# for the orders service
address: kms.example.com:7443
ca_file: ca.pem
cert_file: /etc/orders/client.pem
key_file: keys/client.key
server_name: kms.internal
namespace: shop
`)
	got, err := LoadProfile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Profile{
		Address:    "kms.example.com:7443",
		CAFile:     filepath.Join(dir, "ca.pem"),
		CertFile:   "/etc/orders/client.pem",
		KeyFile:    filepath.Join(dir, "keys/client.key"),
		ServerName: "kms.internal",
		Namespace:  "shop",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
	if got := got.DefaultNamespace().String(); got != "namespaces/shop" {
		t.Errorf("default namespace %s", got)
	}
}

func TestLoadProfileRefuses(t *testing.T) {
	const keys = "the keys are address, ca_file, cert_file, key_file, server_name, namespace"
	tests := map[string]struct{ text, want string }{
		"first line":    {"addr: unix:///run/kmsd.sock\n", ":1: addr: unknown key; " + keys},
		"unknown key":   {"address: unix:///run/kmsd.sock\nca: ca.pem\n", ":2: ca: unknown key; " + keys},
		"duplicate key": {"address: a:1\naddress: b:1\n", ":2: address: given twice, first in line 1"},
		"wrong type":    {"# where\naddress: [a, b]\n", ":2: address: want a single value"},
		"no value":      {"address: a:1\nnamespace:\n", ":2: namespace: has no value; give it one or remove the key"},
		"not a mapping": {"just text\n", ":1: want keys with values"},
		"no YAML":       {"address: a:1\nnamespace: \"shop\n", ": line 2: found unexpected end of stream"},
		"two documents": {"address: a:1\n---\naddress: b:1\n", ": more than one YAML document"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "profile.yaml")
			write(t, path, test.text)
			_, err := LoadProfile(path)
			if !errors.Is(err, ErrProfile) || err.Error() != path+test.want {
				t.Errorf("got %v, want %s", err, path+test.want)
			}
		})
	}
	if _, err := LoadProfile(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestLoadProfileOfComments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "profile.yaml")
	write(t, path, "# nothing yet\n")
	p, err := LoadProfile(path)
	if err != nil || p != (Profile{}) {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestValidate(t *testing.T) {
	withCert := func(address string) Profile {
		return Profile{Address: address, CertFile: "c.pem", KeyFile: "k.pem"}
	}
	tests := []struct {
		profile Profile
		want    string // part of the error; empty: valid
	}{
		{Profile{Address: "unix:///run/keyholt/kmsd.sock"}, ""},
		{withCert("kms.example.com:7443"), ""},
		{withCert("[::1]:7443"), ""},
		{withCert("dns:///kms.example.com:7443"), ""},
		{withCert("dns:kms.example.com:7443"), ""},
		{withCert("a.example.com:7443,b.example.com:7443, 10.0.0.3:7443"), ""},
		{Profile{Address: "unix:///a,unix:///b"}, ""},
		{withCert("a:7443,"), "an empty one"},
		{withCert("a:7443,dns:///b:7443"), "stands alone"},
		{withCert("a:7443,unix:///b"), "no meaning"},
		{Profile{Address: "unix:///a,b:7443"}, "cert_file and key_file are required"},
		{withCert("a:7443,b"), "want host:port"},
		{Profile{}, "address is missing"},
		{Profile{Address: "unix:kmsd.sock"}, "unix:///absolute/path"},
		{Profile{Address: "unix://kmsd.sock"}, "unix:///absolute/path"},
		{Profile{Address: "unix:///" + strings.Repeat("s", 200)}, "the system allows"},
		{Profile{Address: "unix:///s", CAFile: "ca.pem"}, "ca_file has no meaning"},
		{Profile{Address: "unix:///s", CertFile: "c.pem"}, "cert_file has no meaning"},
		{Profile{Address: "unix:///s", KeyFile: "k.pem"}, "key_file has no meaning"},
		{Profile{Address: "unix:///s", ServerName: "kms"}, "server_name has no meaning"},
		{Profile{Address: "unix:///s", Namespace: "Shop"}, "namespace"},
		{withCert("kms.example.com"), "want host:port"},
		{withCert("/run/kmsd.sock"), "unix:///absolute/path"},
		{withCert("kms.example.com:"), "want host:port"},
		{withCert("https://kms.example.com:7443"), `scheme "https"`},
		{Profile{Address: "kms:7443"}, "cert_file and key_file are required"},
		{Profile{Address: "kms:7443", CertFile: "c.pem"}, "cert_file and key_file are required"},
	}
	for _, test := range tests {
		err := test.profile.Validate()
		if test.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", test.profile, err)
			}
			continue
		}
		if !errors.Is(err, ErrProfile) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: got %v, want %q", test.profile, err, test.want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
