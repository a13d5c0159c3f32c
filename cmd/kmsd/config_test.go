package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// minimal is a configuration that sets what is required and nothing else.
const minimal = `data_dir: data
listen:
  unix: kmsd.sock
hsm:
  module: module.so
  token_label: keyholt
  pin_file: pin
`

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kmsd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigDefaults(t *testing.T) {
	path := writeConfig(t, minimal)
	got, _, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	want := &config{
		DataDir: filepath.Join(dir, "data"),
		Listen:  listenConfig{Unix: filepath.Join(dir, "kmsd.sock")},
		HSM: hsmConfig{
			Module: filepath.Join(dir, "module.so"), TokenLabel: "keyholt", PINFile: filepath.Join(dir, "pin"),
			RequireAllowedMechanisms: true,
			Coalesce:                 true,
		},
		Store:       storeConfig{Driver: "sqlite", DSN: filepath.Join(dir, "data", "keyholt.db")},
		Replica:     replicaConfig{Lease: 5 * time.Second},
		Destruction: windowConfig{Window: 30 * 24 * time.Hour, MinWindow: 24 * time.Hour},
		Audit:       auditConfig{File: filepath.Join(dir, "data", "audit.jsonl"), Sync: "200ms"},
		Log:         logConfig{Level: "info", Format: "json"},
		Tracing:     tracingConfig{SampleRatio: 0.01},
		Limits:      limitsConfig{MaxInFlight: 1024},
		Shutdown:    shutdownConfig{DrainTimeout: 30 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestConfigEveryKey(t *testing.T) {
	path := writeConfig(t, `
data_dir: /data
listen: {grpc: "127.0.0.1:7443", unix: /run/kmsd.sock, metrics: "127.0.0.1:9464"}
tls: {cert_file: /tls/cert.pem, key_file: /tls/key.pem, client_ca_file: /tls/ca.pem}
administrators:
  - x509:CN=ops
  - spiffe://example.org/ops
hsm:
  module: /module.so
  init_args: configdir='sql:/nss'
  token_label: keyholt
  token_serial: 0123
  pin_file: /pin
  sessions: 6
  max_block_bytes: 4096
  require_allowed_mechanisms: false
  coalesce: false
store: {driver: postgres, dsn: host=/run/postgresql dbname=keys}
replica: {name: kms-1, lease: 2s}
destruction: {window: 48h, min_window: 1h}
audit: {file: /audit/log, sync: 100ms}
log: {level: debug, format: text}
tracing: {endpoint: "collector:4317", insecure: true, sample_ratio: 1}
limits: {max_in_flight: 7}
shutdown: {drain_timeout: 1m30s}
`)
	got, f, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &config{
		DataDir:        "/data",
		Listen:         listenConfig{GRPC: "127.0.0.1:7443", Unix: "/run/kmsd.sock", Metrics: "127.0.0.1:9464"},
		TLS:            tlsConfig{CertFile: "/tls/cert.pem", KeyFile: "/tls/key.pem", ClientCAFile: "/tls/ca.pem"},
		Administrators: []string{"x509:CN=ops", "spiffe://example.org/ops"},
		HSM: hsmConfig{
			Module: "/module.so", InitArgs: "configdir='sql:/nss'", TokenLabel: "keyholt", TokenSerial: "0123",
			PINFile: "/pin", Sessions: 6, MaxBlockBytes: 4096,
		},
		Store:       storeConfig{Driver: "postgres", DSN: "host=/run/postgresql dbname=keys"},
		Replica:     replicaConfig{Name: "kms-1", Lease: 2 * time.Second},
		Destruction: windowConfig{Window: 48 * time.Hour, MinWindow: time.Hour},
		Audit:       auditConfig{File: "/audit/log", Sync: "100ms"},
		Log:         logConfig{Level: "debug", Format: "text"},
		Tracing:     tracingConfig{Endpoint: "collector:4317", Insecure: true, SampleRatio: 1},
		Limits:      limitsConfig{MaxInFlight: 7},
		Shutdown:    shutdownConfig{DrainTimeout: 90 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, key := range everyKey(reflect.TypeFor[config](), "") {
		if f.lines[key] == 0 && key != "store.dsn_file" { // which does not go with store.dsn
			t.Errorf("this test does not set %s", key)
		}
	}
}

// TestConfigPostgres: the DSN is no path, and comes from one of three places.
func TestConfigPostgres(t *testing.T) {
	t.Setenv(credentialsEnv, "")
	directory := t.TempDir()
	for _, test := range []struct{ name, text, dsn, file string }{
		{"dsn", "store: {driver: postgres, dsn: host=db dbname=keyholt}\n", "host=db dbname=keyholt", ""},
		{"file", "store: {driver: postgres, dsn_file: /etc/keyholt/dsn}\n", "", "/etc/keyholt/dsn"},
		{"credential", "store: {driver: postgres}\n", "", filepath.Join(directory, "dsn")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "credential" {
				if err := os.WriteFile(filepath.Join(directory, "dsn"), []byte("host=db"), 0o600); err != nil {
					t.Fatal(err)
				}
				t.Setenv(credentialsEnv, directory)
			}
			c, _, err := loadConfig(writeConfig(t, minimal+test.text))
			if err != nil {
				t.Fatal(err)
			}
			if c.Store.DSN != test.dsn || c.Store.DSNFile != test.file {
				t.Errorf("dsn %q, dsn_file %q, want %q, %q", c.Store.DSN, c.Store.DSNFile, test.dsn, test.file)
			}
		})
	}
}

// everyKey lists the full names of the keys that have values.
func everyKey(t reflect.Type, path string) (keys []string) {
	for i, key := range keysOf(t) {
		if field := t.Field(i).Type; field.Kind() == reflect.Struct {
			keys = append(keys, everyKey(field, path+key+".")...)
		} else {
			keys = append(keys, path+key)
		}
	}
	return keys
}

func TestConfigProblems(t *testing.T) {
	t.Setenv(credentialsEnv, "")
	tls := "tls:\n  cert_file: c\n  key_file: k\n  client_ca_file: a\n"
	for _, test := range []struct {
		name string
		text string
		want []string // without the file's name
	}{
		{"nothing", "", []string{
			": data_dir: is missing",
			": hsm.module: is missing",
			": hsm.pin_file: is missing, and systemd hands over no credential named pin",
			": hsm.token_label: is missing: the token is named by its label, by hsm.token_serial, or by both",
			": listen: is missing: set listen.grpc, listen.unix or both",
		}},
		{"missing in a section that is there", strings.Replace(minimal, "  module: module.so\n", "", 1), []string{
			":4: hsm.module: is missing",
		}},
		{"unknown key", minimal + "color: red\n", []string{
			":8: color: unknown key; the keys here are data_dir, listen, tls, administrators, hsm, store, replica, destruction, audit, log, tracing, limits, shutdown",
		}},
		{"unknown key in a section", minimal + "log:\n  lvl: info\n", []string{
			":9: log.lvl: unknown key; the keys here are level, format",
		}},
		{"two problems", minimal + "log:\n  lvl: info\n  formt: json\n", []string{
			":9: log.lvl: unknown key; the keys here are level, format",
			":10: log.formt: unknown key; the keys here are level, format",
		}},
		{"merge key", minimal + "log:\n  <<: {level: info}\n", []string{
			":9: log.<<: unknown key; the keys here are level, format",
		}},
		{"duplicate key", minimal + "data_dir: other\n", []string{":8: data_dir: given twice, first in line 1"}},
		{"duplicate section", minimal + "listen: {unix: other}\n", []string{":8: listen: given twice, first in line 2"}},
		{"section as a value", minimal + "log: debug\n", []string{":8: log: want keys with values"}},
		{"value as a section", minimal + "administrators: {a: b}\n", []string{":8: administrators: want a list"}},
		{"list as a value", minimal + "log: {level: [debug]}\n", []string{":8: log.level: want a single value"}},
		{"item that is no text", minimal + "administrators:\n  - x509:CN=a\n  - {b: c}\n", []string{
			":9: administrators: item 2 in line 10 is no text",
		}},
		{"no value", minimal + "store:\n  dsn:\n", []string{":9: store.dsn: has no value; give it one or remove the key"}},
		{"no number", minimal + "limits:\n  max_in_flight: many\n", []string{":9: limits.max_in_flight: \"many\" is no whole number"}},
		{"number in quotes", minimal + "limits:\n  max_in_flight: \"8\"\n", []string{
			":9: limits.max_in_flight: \"8\" is no whole number",
		}},
		{"no whole number", minimal + "limits:\n  max_in_flight: 1.5\n", []string{
			":9: limits.max_in_flight: \"1.5\" is no whole number",
		}},
		{"no boolean", strings.Replace(minimal, "  module", "  require_allowed_mechanisms: no\n  module", 1), []string{
			":5: hsm.require_allowed_mechanisms: \"no\" is neither true nor false",
		}},
		{"no duration", minimal + "shutdown:\n  drain_timeout: 30\n", []string{
			":9: shutdown.drain_timeout: \"30\" is no duration; want one such as 30s or 1m30s",
		}},
		{"alias", minimal + "store:\n  driver: &d sqlite\n  dsn: *d\n", []string{":10: store.dsn: is an alias; write out what it stands for"}},
		{"section by alias", minimal + "store: &s {driver: sqlite}\nreplica: *s\n", []string{":9: replica: is an alias; write out what it stands for"}},
		{"no mapping", "- a\n", []string{":1: want keys with values"}},
		{"two documents", minimal + "---\ndata_dir: b\n", []string{": more than one YAML document"}},
		{"no YAML", "data_dir: a\n  b: c\n", []string{": line 2: mapping values are not allowed in this context"}},

		{"driver", minimal + "store: {driver: mysql}\n", []string{
			":8: store.driver: there is no driver \"mysql\"; the drivers are: sqlite, postgres",
		}},
		{"no DSN", minimal + "store: {driver: postgres}\n", []string{
			":8: store.dsn: is missing, as is store.dsn_file, and systemd hands over no credential named dsn",
		}},
		{"two DSNs", minimal + "store: {driver: postgres, dsn: host=db, dsn_file: f}\n", []string{
			":8: store.dsn_file: store.dsn is set too; which is meant?",
		}},
		{"DSN file of sqlite", minimal + "store: {dsn_file: f}\n", []string{
			":8: store.dsn_file: would be ignored: the DSN of sqlite is the path of a file; it goes into store.dsn",
		}},
		{"no DSN at all", minimal + "store: {driver: postgres, dsn: 'password=two words'}\n", []string{
			":8: store.dsn: the store's dsn cannot be used: want postgres://USER@HOST/DATABASE?sslmode=verify-full, or words key=value",
		}},
		{"weak DSN", minimal + "store: {driver: postgres, dsn: 'host=db synchronous_commit=off'}\n", []string{
			":8: store.dsn: the store's dsn has synchronous_commit=off, with which commits can be lost; " +
				"remove it, or use on or remote_apply",
		}},
		{"sync", minimal + "audit: {sync: 2s}\n", []string{
			":8: audit.sync: the sync interval 2s is not between 0 and 1s",
		}},
		{"log", minimal + "log: {level: loud, format: xml}\n", []string{
			":8: log.level: \"loud\" is none of debug, info, warn, error",
			":8: log.format: \"xml\" is neither json nor text",
		}},
		{"lease", minimal + "replica: {lease: 100ms}\n", []string{":8: replica.lease: want 500ms to 1m0s"}},
		{"lease without others", minimal + "replica: {lease: 2s}\n", []string{
			":8: replica.lease: would be ignored: a store of sqlite has one server",
		}},
		{"window", minimal + "destruction: {window: 1h}\n", []string{
			":8: destruction.window: is less than destruction.min_window, 24h0m0s",
		}},
		{"limits", minimal + "limits: {max_in_flight: 0}\nshutdown: {drain_timeout: 0s}\n", []string{
			":8: limits.max_in_flight: want at least 1",
			":9: shutdown.drain_timeout: want more than 0s",
		}},
		{"block bytes", strings.Replace(minimal, "  module", "  max_block_bytes: 100\n  sessions: -1\n  module", 1), []string{
			":6: hsm.sessions: is negative",
			":5: hsm.max_block_bytes: want a multiple of 16 from 32 up",
		}},
		{"TLS is missing", strings.Replace(minimal, "unix: kmsd.sock", "grpc: \"localhost:7443\"", 1), []string{
			": tls.cert_file: is missing: listen.grpc needs it",
			": tls.key_file: is missing: listen.grpc needs it",
			": tls.client_ca_file: is missing: listen.grpc needs it",
		}},
		{"TLS for nothing", minimal + tls + "administrators: [x509:CN=a]\n", []string{
			":9: tls.cert_file: would be ignored: listen.grpc is not set",
			":10: tls.key_file: would be ignored: listen.grpc is not set",
			":11: tls.client_ca_file: would be ignored: listen.grpc is not set",
			":12: administrators: would be ignored: listen.grpc is not set, and callers on the unix socket have no certificates",
		}},
		{"address", strings.Replace(minimal, "unix: kmsd.sock", "grpc: localhost", 1) + tls, []string{
			":3: listen.grpc: want host:port: address localhost: missing port in address",
		}},
		{"port", strings.Replace(minimal, "unix: kmsd.sock", "grpc: \":https\"", 1) + tls + "administrators: [ops]\n", []string{
			":3: listen.grpc: want host:port: \"https\" is no port number",
			":12: administrators: \"ops\" is no principal of a client certificate, such as x509:CN=ops or spiffe://example.org/ops",
		}},
		{"metrics", strings.Replace(minimal, "unix: kmsd.sock", "unix: kmsd.sock\n  metrics: 9464", 1), []string{
			":4: listen.metrics: want host:port: address 9464: missing port in address",
		}},
		{"only metrics", strings.Replace(minimal, "unix: kmsd.sock", "metrics: localhost:9464", 1), []string{
			":2: listen: is missing: set listen.grpc, listen.unix or both",
		}},
		{"tracing", minimal + "tracing: {endpoint: \":4317\", sample_ratio: 1.5}\n", []string{
			":8: tracing.endpoint: want host:port: there is no host",
			":8: tracing.sample_ratio: want 0 to 1",
		}},
		{"tracing to nowhere", minimal + "tracing:\n  insecure: true\n  sample_ratio: 0.5\n", []string{
			":9: tracing.insecure: would be ignored: tracing.endpoint is not set",
			":10: tracing.sample_ratio: would be ignored: tracing.endpoint is not set",
		}},
		{"no ratio", minimal + "tracing: {endpoint: \"c:1\", sample_ratio: all}\n", []string{
			":8: tracing.sample_ratio: \"all\" is no number",
		}},
		{"ratio that is none", minimal + "tracing: {endpoint: \"c:1\", sample_ratio: .nan}\n", []string{
			":8: tracing.sample_ratio: \".nan\" is no number",
		}},
		{"socket path", strings.Replace(minimal, "kmsd.sock", "/"+strings.Repeat("s", maxSocketPath), 1), []string{
			":3: listen.unix: the path has 104 bytes; the system allows 103",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := writeConfig(t, test.text)
			_, _, err := loadConfig(path)
			if !errors.Is(err, errConfiguration) {
				t.Fatalf("error %v, want a configuration error", err)
			}
			want := path + strings.Join(test.want, "\n"+path)
			if diff := cmp.Diff(want, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfigPINFromSystemd(t *testing.T) {
	credentials := t.TempDir()
	pin := filepath.Join(credentials, "pin")
	if err := os.WriteFile(pin, []byte("1234\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv(credentialsEnv, credentials)
	c, _, err := loadConfig(writeConfig(t, strings.Replace(minimal, "  pin_file: pin\n", "", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if c.HSM.PINFile != pin {
		t.Errorf("the PIN is read from %s, want %s", c.HSM.PINFile, pin)
	}
	c, _, err = loadConfig(writeConfig(t, minimal))
	if err != nil {
		t.Fatal(err)
	}
	if c.HSM.PINFile == pin {
		t.Error("the credential takes precedence over hsm.pin_file")
	}
}

func TestReadPIN(t *testing.T) {
	credentials := t.TempDir()
	t.Setenv(credentialsEnv, credentials)
	for _, test := range []struct {
		name    string
		dir     string
		content string
		mode    os.FileMode
		want    string // PIN, or part of the error
		fails   bool
	}{
		{"newline", t.TempDir(), "1234\n", 0o600, "1234", false},
		{"no newline", t.TempDir(), "1234", 0o400, "1234", false},
		{"CRLF", t.TempDir(), "1234\r\n", 0o600, "1234", false},
		{"blanks belong to it", t.TempDir(), " 12 34 \n", 0o600, " 12 34 ", false},
		{"group", t.TempDir(), "1234\n", 0o640, "has mode 0640: others than its owner can use it", true},
		{"others", t.TempDir(), "1234\n", 0o604, "has mode 0604: others than its owner can use it", true},
		{"others may write", t.TempDir(), "1234\n", 0o602, "has mode 0602: others than its owner can use it", true},
		{"credential with an access control list", credentials, "1234\n", 0o440, "1234", false},
		{"credential for everybody", credentials, "1234\n", 0o444, "has mode 0444: others than its owner can use it", true},
		{"empty", t.TempDir(), "\n", 0o600, "is empty", true},
		{"too long", t.TempDir(), strings.Repeat("1", maxPIN+1), 0o600, "has more than 1024 bytes", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(test.dir, "pin")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Remove(path) })
			pin, err := readPIN(path)
			if !test.fails {
				if err != nil || string(pin) != test.want {
					t.Errorf("PIN %q, error %v; want %q", pin, err, test.want)
				}
				return
			}
			if !errors.Is(err, errConfiguration) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want one that says %q and names the file", err, test.want)
			}
			if strings.Contains(err.Error(), strings.TrimSpace(test.content)) && strings.TrimSpace(test.content) != "" {
				t.Errorf("the error tells the PIN: %v", err)
			}
		})
	}
	if _, err := readPIN(credentials); !errors.Is(err, errConfiguration) {
		t.Errorf("a directory as a PIN file: %v", err)
	}
	if _, err := readPIN(filepath.Join(credentials, "none")); !errors.Is(err, errConfiguration) {
		t.Errorf("a PIN file that is not there: %v", err)
	}
}
