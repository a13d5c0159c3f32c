package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyholt/keyholt/kms/client"
)

// Flags come before the environment, which comes before the profile file.
func TestSettingsPrecedence(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir) // the user's configuration directory on Linux
	t.Setenv("HOME", dir)
	userDir, err := os.UserConfigDir()
	if err != nil {
		t.Fatal(err)
	}
	writeProfile(t, filepath.Join(userDir, "keyholt", "profile.yaml"), "address: unix:///user\nnamespace: user\n")
	named := filepath.Join(dir, "named.yaml")
	writeProfile(t, named, "address: named:1\ncert_file: c.pem\nkey_file: k.pem\nnamespace: named\n")
	flagged := filepath.Join(dir, "flagged.yaml")
	writeProfile(t, flagged, "address: unix:///flagged\n")

	tests := map[string]struct {
		environment map[string]string
		settings    settings
		want        client.Profile
	}{
		"user's file": {want: client.Profile{Address: "unix:///user", Namespace: "user"}},
		"named file": {
			environment: map[string]string{"KEYHOLT_PROFILE": named},
			want: client.Profile{
				Address: "named:1", CertFile: filepath.Join(dir, "c.pem"), KeyFile: filepath.Join(dir, "k.pem"),
				Namespace: "named",
			},
		},
		"flag names the file": {
			environment: map[string]string{"KEYHOLT_PROFILE": named},
			settings:    settings{file: flagged},
			want:        client.Profile{Address: "unix:///flagged"},
		},
		"environment over file": {
			environment: map[string]string{
				"KEYHOLT_PROFILE": named, "KEYHOLT_NAMESPACE": "env", "KEYHOLT_SERVER_NAME": "kms",
				"KEYHOLT_CA_FILE": "ca.pem",
			},
			want: client.Profile{
				Address: "named:1", CertFile: filepath.Join(dir, "c.pem"), KeyFile: filepath.Join(dir, "k.pem"),
				CAFile: "ca.pem", ServerName: "kms", Namespace: "env",
			},
		},
		"flag over environment": {
			environment: map[string]string{"KEYHOLT_NAMESPACE": "env", "KEYHOLT_ADDRESS": "unix:///env"},
			settings:    settings{flag: client.Profile{Namespace: "flag"}},
			want:        client.Profile{Address: "unix:///env", Namespace: "flag"},
		},
		"unix socket over TLS credentials": {
			environment: map[string]string{"KEYHOLT_PROFILE": named},
			settings:    settings{flag: client.Profile{Address: "unix:///flag"}},
			want:        client.Profile{Address: "unix:///flag", Namespace: "named"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := test.settings.profile(func(name string) string { return test.environment[name] })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSettingsRefused(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("HOME", dir)
	unknown := filepath.Join(dir, "unknown.yaml")
	writeProfile(t, unknown, "address: unix:///s\nretries: 3\n")
	for name, test := range map[string]struct {
		environment map[string]string
		want        string
	}{
		"nothing said":        {nil, "KEYHOLT_PROFILE"},
		"named file missing":  {map[string]string{"KEYHOLT_PROFILE": filepath.Join(dir, "none")}, "no such file"},
		"unknown key":         {map[string]string{"KEYHOLT_PROFILE": unknown}, "unknown.yaml:2: retries: unknown key"},
		"no credentials":      {map[string]string{"KEYHOLT_ADDRESS": "kms:7443"}, "cert_file"},
		"malformed address":   {map[string]string{"KEYHOLT_ADDRESS": "kms"}, "host:port"},
		"malformed namespace": {map[string]string{"KEYHOLT_ADDRESS": "unix:///s", "KEYHOLT_NAMESPACE": "A"}, "namespace"},
		"unix socket with credentials": {
			map[string]string{"KEYHOLT_ADDRESS": "unix:///s", "KEYHOLT_CERT_FILE": "c.pem"}, "cert_file",
		},
	} {
		var s settings
		_, err := s.profile(func(name string) string { return test.environment[name] })
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want a usage error with %q", name, err, test.want)
		}
	}
}

func writeProfile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
