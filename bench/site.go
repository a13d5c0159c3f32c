package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/softhsm-test/latency"
)

// site is a directory as kmsd dev makes it: a SoftHSM2 token with its PIN, the metadata
// of its keys, certificates. Servers run on copies, so that all of them have the same
// keys and open the same wrapped keys.
type site struct {
	dir       string
	module    string // SoftHSM2's
	principal string // of the client certificate
}

const (
	siteLabel     = "keyholt-dev"
	sitePrincipal = "x509:CN=dev"
	objectsDir    = "softhsm/tokens"
	softHSMConf   = "softhsm/softhsm2.conf"
)

// siteFiles are what a copy takes along.
var siteFiles = []string{"pin", "tls", objectsDir, "keyholt.db"}

// modulePattern finds the module in kmsd dev's log.
var modulePattern = regexp.MustCompile(`msg="token opened".* module="?([^" ]+)`)

// newSite makes a site in dir with what make makes on a first server, and then what fill
// makes on a second one, and leaves it without a running server.
func newSite(
	ctx context.Context, kmsd, dir string,
	makeKeys func(context.Context, client.Profile, *shelf) error, makeItems func(context.Context, client.Profile) error,
) (*site, error) {
	data := filepath.Join(dir, "data") // kmsd dev wants to have made all that is in it
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var objects *shelf
	_, err := onSite(ctx, kmsd, dir, data, func(ctx context.Context, p client.Profile) (err error) {
		if objects, err = newShelf(filepath.Join(data, objectsDir), filepath.Join(dir, "aside")); err != nil {
			return err
		}
		return makeKeys(ctx, p, objects)
	})
	if err != nil {
		return nil, err
	}
	if err := objects.back(); err != nil {
		return nil, err
	}
	return onSite(ctx, kmsd, dir, data, makeItems)
}

// onSite runs kmsd dev on a directory while work works.
func onSite(
	ctx context.Context, kmsd, dir, data string, work func(context.Context, client.Profile) error,
) (*site, error) {
	p, err := startProcess(ctx, dir, "kmsd dev", nil, kmsd, "dev", "--data-dir", data)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	profile, err := client.LoadProfile(filepath.Join(data, "profile-tls.yaml"))
	if err != nil {
		return nil, err
	}
	if err := work(ctx, profile); err != nil {
		return nil, errors.Join(err, p.failed())
	}
	p.stop()
	log, err := os.ReadFile(filepath.Join(dir, logFile))
	if err != nil {
		return nil, err
	}
	found := modulePattern.FindSubmatch(log)
	if found == nil {
		return nil, fmt.Errorf("%w: the log of kmsd dev does not name its module:\n%s", ErrProcess, p.log.tail())
	}
	return &site{dir: data, module: string(found[1]), principal: sitePrincipal}, nil
}

// profile is how clients reach a server at the address.
func (s *site) profile(address string) client.Profile {
	return client.Profile{
		Address:  address,
		CAFile:   filepath.Join(s.dir, "tls", "ca.pem"),
		CertFile: filepath.Join(s.dir, "tls", "client.pem"),
		KeyFile:  filepath.Join(s.dir, "tls", "client-key.pem"),
	}
}

// copyTo makes a copy of the site in another directory.
func (s *site) copyTo(dir string) (*site, error) {
	for _, name := range siteFiles {
		if err := copyTree(filepath.Join(dir, name), filepath.Join(s.dir, name)); err != nil {
			return nil, err
		}
	}
	conf, err := os.ReadFile(filepath.Join(s.dir, softHSMConf))
	if err != nil {
		return nil, err
	}
	conf = bytes.ReplaceAll(conf, []byte(filepath.Join(s.dir, objectsDir)), []byte(filepath.Join(dir, objectsDir)))
	if err := os.WriteFile(filepath.Join(dir, softHSMConf), conf, 0o600); err != nil { //nolint:gosec // both directories are the harness's own
		return nil, err
	}
	return &site{dir: dir, module: s.module, principal: s.principal}, nil
}

// copyTree copies a file or a directory, with modes that only the owner can use.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
			return err
		}
		content, err := os.ReadFile(path) //nolint:gosec // a walk of the directory that this program has made
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600) //nolint:gosec // the same
	})
}

// serverConfig is the configuration file of kmsd, as far as it is not the default.
type serverConfig struct {
	DataDir string `yaml:"data_dir"`
	Listen  struct {
		GRPC    string `yaml:"grpc"`
		Metrics string `yaml:"metrics"`
	} `yaml:"listen"`
	TLS struct {
		CertFile     string `yaml:"cert_file"`
		KeyFile      string `yaml:"key_file"`
		ClientCAFile string `yaml:"client_ca_file"`
	} `yaml:"tls"`
	Administrators []string `yaml:"administrators"`
	HSM            struct {
		Module     string `yaml:"module"`
		TokenLabel string `yaml:"token_label"`
		PINFile    string `yaml:"pin_file"`
		Sessions   int    `yaml:"sessions,omitempty"`
		Coalesce   *bool  `yaml:"coalesce,omitempty"`
	} `yaml:"hsm"`
}

// writeConfig writes the configuration of a server on this site and returns its path
// and what the environment needs.
func (s *site) writeConfig(ctx context.Context, server Server) (path string, env []string, err error) {
	var c serverConfig
	c.DataDir = s.dir
	c.Listen.GRPC, c.Listen.Metrics = anyPort, anyPort
	c.TLS.CertFile = filepath.Join(s.dir, "tls", "server.pem")
	c.TLS.KeyFile = filepath.Join(s.dir, "tls", "server-key.pem")
	c.TLS.ClientCAFile = filepath.Join(s.dir, "tls", "ca.pem")
	c.Administrators = []string{s.principal}
	c.HSM.Module, c.HSM.TokenLabel, c.HSM.PINFile = s.module, siteLabel, filepath.Join(s.dir, "pin")
	c.HSM.Sessions = server.Sessions
	if server.OneCallEach {
		c.HSM.Coalesce = new(bool)
	}
	env = []string{"SOFTHSM2_CONF=" + filepath.Join(s.dir, softHSMConf)}
	if server.HSMLatency > 0 {
		if c.HSM.Module, err = latency.Build(ctx, s.dir); err != nil {
			return "", nil, err
		}
		env = append(env, latency.Config{Module: s.module, Delay: server.HSMLatency}.Env()...)
	}
	text, err := yaml.Marshal(c)
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(s.dir, "kmsd.yaml")
	return path, env, os.WriteFile(path, text, 0o600)
}

// anyPort lets the system choose.
const anyPort = "127.0.0.1:0"
