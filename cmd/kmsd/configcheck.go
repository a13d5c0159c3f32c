package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keyholt/keyholt/hsm"
	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/audit"
	"github.com/keyholt/keyholt/kms/authn"
)

// maxSocketPath is the longest path of a unix socket, in bytes: sun_path of sockaddr_un
// holds 108 on Linux and 104 on BSD and macOS, with a zero at the end. One limit for
// all, so that a configuration works everywhere or nowhere.
const maxSocketPath = 103

// What the principal names of client certificates begin with: a subject, or a SPIFFE ID.
const (
	subjectPrincipal = "x509:"
	spiffePrincipal  = "spiffe://"
)

// check adds the problems that can be seen in the configuration alone.
func (c *config) check(f *yamlFile) {
	required := func(key, value string) {
		if value == "" {
			f.problem(key, "is missing")
		}
	}
	required("data_dir", c.DataDir)
	required("hsm.module", c.HSM.Module)
	if c.HSM.PINFile == "" {
		f.problem("hsm.pin_file", "is missing, and systemd hands over no credential named pin")
	}
	if c.HSM.TokenLabel == "" && c.HSM.TokenSerial == "" {
		f.problem("hsm.token_label", "is missing: the token is named by its label, by hsm.token_serial, or by both")
	}
	if c.HSM.Sessions < 0 {
		f.problem("hsm.sessions", "is negative")
	}
	if n := c.HSM.MaxBlockBytes; n < 0 || n%hsm.BlockSize != 0 || n == hsm.BlockSize {
		f.problem("hsm.max_block_bytes", "want a multiple of %d from %d up", hsm.BlockSize, 2*hsm.BlockSize)
	}
	c.Store.check(f)
	switch l := c.Replica.Lease; {
	case l < kms.MinLease || l > kms.MaxLease:
		f.problem("replica.lease", "want %s to %s", kms.MinLease, kms.MaxLease)
	case c.Store.Driver == driverSQLite && f.lines["replica.lease"] != 0:
		f.problem("replica.lease", "would be ignored: a store of sqlite has one server")
	}
	if c.Destruction.MinWindow <= 0 {
		f.problem("destruction.min_window", "want more than 0s")
	}
	if c.Destruction.Window < c.Destruction.MinWindow {
		f.problem("destruction.window", "is less than destruction.min_window, %s", c.Destruction.MinWindow)
	}
	if _, err := audit.ParseSync(c.Audit.Sync); err != nil {
		f.problem("audit.sync", "%v", err)
	}
	if _, err := c.Log.level(); err != nil {
		f.problem("log.level", "%v", err)
	}
	if c.Log.Format != "json" && c.Log.Format != "text" {
		f.problem("log.format", "%q is neither json nor text", c.Log.Format)
	}
	if c.Limits.MaxInFlight < 1 {
		f.problem("limits.max_in_flight", "want at least 1")
	}
	if c.Shutdown.DrainTimeout <= 0 {
		f.problem("shutdown.drain_timeout", "want more than 0s")
	}
	c.checkListeners(f)
	c.checkTracing(f)
}

func (c *config) checkTracing(f *yamlFile) {
	if c.Tracing.Endpoint == "" {
		for _, key := range []string{"tracing.insecure", "tracing.sample_ratio"} {
			if f.lines[key] != 0 {
				f.problem(key, "would be ignored: tracing.endpoint is not set")
			}
		}
		return
	}
	if err := checkAddress(c.Tracing.Endpoint); err != nil {
		f.problem("tracing.endpoint", "%v", err)
	} else if strings.HasPrefix(c.Tracing.Endpoint, ":") {
		f.problem("tracing.endpoint", "want host:port: there is no host")
	}
	if r := c.Tracing.SampleRatio; r < 0 || r > 1 {
		f.problem("tracing.sample_ratio", "want 0 to 1")
	}
}

func (c *config) checkListeners(f *yamlFile) {
	if c.Listen.GRPC == "" && c.Listen.Unix == "" {
		f.problem("listen", "is missing: set listen.grpc, listen.unix or both")
	}
	if len(c.Listen.Unix) > maxSocketPath {
		f.problem("listen.unix", "the path has %d bytes; the system allows %d", len(c.Listen.Unix), maxSocketPath)
	}
	for _, listener := range []struct{ key, address string }{
		{"listen.grpc", c.Listen.GRPC}, {"listen.metrics", c.Listen.Metrics},
	} {
		if listener.address == "" {
			continue
		}
		if err := checkAddress(listener.address); err != nil {
			f.problem(listener.key, "%v", err)
		}
	}
	for _, file := range []struct{ key, value string }{
		{"tls.cert_file", c.TLS.CertFile}, {"tls.key_file", c.TLS.KeyFile}, {"tls.client_ca_file", c.TLS.ClientCAFile},
	} {
		switch {
		case c.Listen.GRPC != "" && file.value == "":
			f.problem(file.key, "is missing: listen.grpc needs it")
		case c.Listen.GRPC == "" && file.value != "":
			f.problem(file.key, "would be ignored: listen.grpc is not set")
		}
	}
	if c.Listen.GRPC == "" && len(c.Administrators) > 0 {
		f.problem("administrators", "would be ignored: listen.grpc is not set, and callers on the unix socket have no certificates")
	}
	for _, name := range c.Administrators {
		subject, isSubject := strings.CutPrefix(name, subjectPrincipal)
		id, isID := strings.CutPrefix(name, spiffePrincipal)
		if !isSubject && !isID || subject == "" || id == "" {
			f.problem("administrators", "%q is no principal of a client certificate, such as %sCN=ops or %sexample.org/ops",
				name, subjectPrincipal, spiffePrincipal)
		}
	}
}

// checkAddress checks a listen address: host:port with a numeric port.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("want host:port: %w", err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("want host:port: %q is no port number", port)
	}
	return nil
}

func (l logConfig) level() (slog.Level, error) {
	switch l.Level {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%q is none of debug, info, warn, error", l.Level)
}

// verify checks the configuration against the files that it names, and adds what is wrong,
// each at the line of the key that names the file. A key that is missing is no matter of
// files. It neither loads the module nor opens the store, and makes nothing.
func (c *config) verify(f *yamlFile) {
	report := func(key, path string, check func(path string) error) {
		if path == "" {
			return
		}
		if err := check(path); err != nil {
			f.problem(key, "%v", err)
		}
	}
	report("data_dir", c.DataDir, directoryOrNone)
	report("hsm.module", c.HSM.Module, readableFile)
	report("hsm.pin_file", c.HSM.PINFile, func(path string) error {
		pin, err := readPIN(path)
		clear(pin)
		return err
	})
	c.Store.verify(f)
	for _, file := range []struct{ key, path string }{
		{"store.dsn", c.Store.sqlitePath()}, {"audit.file", c.Audit.File}, {"listen.unix", c.Listen.Unix},
	} {
		if f.lines[file.key] != 0 && filepath.Dir(file.path) != c.DataDir {
			report(file.key, filepath.Dir(file.path), directory)
		}
	}
	if c.Listen.GRPC == "" {
		return
	}
	bad := c.tlsFiles().Check()
	for _, file := range []struct {
		key, path string
		err       error
	}{
		{"tls.cert_file", c.TLS.CertFile, bad.Cert},
		{"tls.key_file", c.TLS.KeyFile, bad.Key},
		{"tls.client_ca_file", c.TLS.ClientCAFile, bad.ClientCA},
	} {
		report(file.key, file.path, func(string) error { return file.err })
	}
}

func (c *config) tlsFiles() authn.TLSFiles {
	return authn.TLSFiles{CertFile: c.TLS.CertFile, KeyFile: c.TLS.KeyFile, ClientCAFile: c.TLS.ClientCAFile}
}

// directoryOrNone accepts a directory, and a name that a directory can be made under.
func directoryOrNone(path string) error {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return directoryOrNone(filepath.Dir(path))
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is no directory", path)
	}
	return nil
}

func directory(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no directory", path)
	}
	return nil
}

func readableFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file", path)
	}
	return nil
}
