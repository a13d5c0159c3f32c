package main

import (
	"os"
	"path/filepath"
	"time"

	"github.com/keyholt/keyholt/kms"
)

// config is the configuration of the server. The yaml tags are the keys of the file;
// docs/configuration.md describes each. File names are absolute once it is loaded.
type config struct {
	DataDir        string         `yaml:"data_dir"`
	Listen         listenConfig   `yaml:"listen"`
	TLS            tlsConfig      `yaml:"tls"`
	Administrators []string       `yaml:"administrators"` // principal names of client certificates
	HSM            hsmConfig      `yaml:"hsm"`
	Store          storeConfig    `yaml:"store"`
	Replica        replicaConfig  `yaml:"replica"`
	Destruction    windowConfig   `yaml:"destruction"`
	Audit          auditConfig    `yaml:"audit"`
	Log            logConfig      `yaml:"log"`
	Tracing        tracingConfig  `yaml:"tracing"`
	Limits         limitsConfig   `yaml:"limits"`
	Shutdown       shutdownConfig `yaml:"shutdown"`
}

// listenConfig: at least one of the first two is set.
type listenConfig struct {
	GRPC string `yaml:"grpc"` // host:port, TLS 1.3 with client certificates
	Unix string `yaml:"unix"` // path of a socket

	Metrics string `yaml:"metrics"` // host:port, plain HTTP; empty: none
}

// tlsConfig is set with listen.grpc, and only with it.
type tlsConfig struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ClientCAFile string `yaml:"client_ca_file"`
}

type hsmConfig struct {
	Module                   string `yaml:"module"`
	InitArgs                 string `yaml:"init_args"`
	TokenLabel               string `yaml:"token_label"` // this or the serial number
	TokenSerial              string `yaml:"token_serial"`
	PINFile                  string `yaml:"pin_file"`
	Sessions                 int    `yaml:"sessions"`        // 0: three for each core
	MaxBlockBytes            int    `yaml:"max_block_bytes"` // 0: the token package's default
	RequireAllowedMechanisms bool   `yaml:"require_allowed_mechanisms"`
	Coalesce                 bool   `yaml:"coalesce"`
}

// storeConfig: postgres has either of the last two.
type storeConfig struct {
	Driver  string `yaml:"driver"`
	DSN     string `yaml:"dsn"`
	DSNFile string `yaml:"dsn_file"` // with the DSN, which may hold a password
}

// replicaConfig says how this server takes its place beside others on the same store.
type replicaConfig struct {
	Name  string        `yaml:"name"` // empty: host name and process id
	Lease time.Duration `yaml:"lease"`
}

// windowConfig bounds the window before a key version's token object is destroyed.
type windowConfig struct {
	Window    time.Duration `yaml:"window"`
	MinWindow time.Duration `yaml:"min_window"`
}

type auditConfig struct {
	File string `yaml:"file"`
	Sync string `yaml:"sync"` // "always", or an interval
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// tracingConfig: nothing is set without an endpoint.
type tracingConfig struct {
	Endpoint    string  `yaml:"endpoint"` // host:port of an OTLP receiver
	Insecure    bool    `yaml:"insecure"` // without TLS
	SampleRatio float64 `yaml:"sample_ratio"`
}

type limitsConfig struct {
	MaxInFlight int `yaml:"max_in_flight"` // requests at once
}

type shutdownConfig struct {
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// The files that have a name in the data directory unless the configuration says
// otherwise. The lock file has no other.
const (
	storeFile = "keyholt.db"
	auditFile = "audit.jsonl"
	lockFile  = "kmsd.lock"

	// anchorFile remembers the newest revision of the store.
	anchorFile = "anchor.json"
)

// The defaults of keys that are not in the file. hsm.sessions and hsm.max_block_bytes
// have theirs in package pkcs11hsm.
const (
	driverSQLite        = "sqlite"
	driverPostgres      = "postgres"
	defaultMaxInFlight  = 1024
	defaultDrainTimeout = 30 * time.Second
	defaultSampleRatio  = 0.01 // of tens of thousands of requests a second enough
	defaultAuditSync    = "200ms"
	defaultWindow       = 30 * 24 * time.Hour
	defaultMinWindow    = 24 * time.Hour
)

// defaultConfig is what a file that sets nothing stands for.
func defaultConfig() config {
	return config{
		HSM:         hsmConfig{RequireAllowedMechanisms: true, Coalesce: true},
		Store:       storeConfig{Driver: driverSQLite},
		Replica:     replicaConfig{Lease: kms.DefaultLease},
		Destruction: windowConfig{Window: defaultWindow, MinWindow: defaultMinWindow},
		Audit:       auditConfig{Sync: defaultAuditSync},
		Log:         logConfig{Level: "info", Format: "json"},
		Tracing:     tracingConfig{SampleRatio: defaultSampleRatio},
		Limits:      limitsConfig{MaxInFlight: defaultMaxInFlight},
		Shutdown:    shutdownConfig{DrainTimeout: defaultDrainTimeout},
	}
}

// loadConfig reads a configuration file and checks all that can be seen in it alone.
// What is wrong is returned as [problems], which match errConfiguration; the yamlFile
// knows the lines, for checks that follow.
func loadConfig(path string) (*config, *yamlFile, error) {
	c, f, err := readConfig(path)
	if err != nil {
		return nil, nil, err
	}
	if len(f.problems) > 0 {
		return nil, nil, f.problems
	}
	return c, f, nil
}

// readConfig is loadConfig that fails only if the file cannot be decoded: what else is
// wrong with it the yamlFile holds.
func readConfig(path string) (*config, *yamlFile, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, as(errConfiguration, err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, as(errConfiguration, err)
	}
	c := defaultConfig()
	f := decodeYAML(path, text, &c)
	if len(f.problems) > 0 { // consequences would be reported as causes
		return nil, nil, f.problems
	}
	c.resolve(filepath.Dir(absolute))
	c.check(f)
	return &c, f, nil
}

// resolve makes relative file names relative to dir, that of the configuration file,
// and fills in the defaults that are names in the data directory.
func (c *config) resolve(dir string) {
	if c.HSM.PINFile == "" {
		c.HSM.PINFile = credential("pin")
	}
	names := []*string{
		&c.DataDir, &c.Listen.Unix, &c.TLS.CertFile, &c.TLS.KeyFile, &c.TLS.ClientCAFile,
		&c.HSM.Module, &c.HSM.PINFile, &c.Store.DSNFile, &c.Audit.File,
	}
	switch {
	case c.Store.Driver == driverSQLite:
		names = append(names, &c.Store.DSN)
	case c.Store.Driver == driverPostgres && c.Store.DSN == "" && c.Store.DSNFile == "":
		c.Store.DSNFile = credential("dsn")
	}
	for _, name := range names {
		if *name != "" && !filepath.IsAbs(*name) {
			*name = filepath.Join(dir, *name)
		}
	}
	c.inDataDir()
}

// inDataDir fills in the defaults that are names in the data directory.
func (c *config) inDataDir() {
	if c.Store.Driver == driverSQLite && c.Store.DSN == "" {
		c.Store.DSN = filepath.Join(c.DataDir, storeFile)
	}
	if c.Audit.File == "" {
		c.Audit.File = filepath.Join(c.DataDir, auditFile)
	}
}
