package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/keyholt/keyholt/kms/client"
)

// settings are the flags that say where the service is and who the caller is. Each has
// a variable of the environment and a key of the profile file; flags come first, then
// the environment, then the file.
type settings struct {
	file string // --client-profile
	flag client.Profile
}

// profileVariable names the profile file.
const profileVariable = "KEYHOLT_PROFILE"

// setting is one field of a profile.
type setting struct {
	flag, short, variable, usage string
	of                           func(*client.Profile) *string
	tls                          bool // has no meaning for a unix socket
}

// settingsTable lists the fields.
var settingsTable = []setting{
	{
		flag: "address", variable: "KEYHOLT_ADDRESS", usage: "unix:///path or host:port of the service; of several replicas, all, with commas between",
		of: func(p *client.Profile) *string { return &p.Address },
	},
	{
		flag: "ca-file", variable: "KEYHOLT_CA_FILE", usage: "PEM certificates that the server's must be signed by",
		of: func(p *client.Profile) *string { return &p.CAFile }, tls: true,
	},
	{
		flag: "cert-file", variable: "KEYHOLT_CERT_FILE", usage: "PEM file of the client certificate",
		of: func(p *client.Profile) *string { return &p.CertFile }, tls: true,
	},
	{
		flag: "key-file", variable: "KEYHOLT_KEY_FILE", usage: "PEM file of the client certificate's private key",
		of: func(p *client.Profile) *string { return &p.KeyFile }, tls: true,
	},
	{
		flag: "server-name", variable: "KEYHOLT_SERVER_NAME", usage: "name that the server's certificate must be for",
		of: func(p *client.Profile) *string { return &p.ServerName }, tls: true,
	},
	{
		flag: "namespace", short: "n", variable: "KEYHOLT_NAMESPACE", usage: "namespace of names that do not say one",
		of: func(p *client.Profile) *string { return &p.Namespace },
	},
}

func (s *settings) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&s.file, "client-profile", "", "profile file with address and credentials")
	for _, field := range settingsTable {
		flags.StringVarP(field.of(&s.flag), field.flag, field.short, "", field.usage)
	}
}

// profile puts the layers together and checks the result.
func (s *settings) profile(getenv func(string) string) (client.Profile, error) {
	profile, err := s.load(getenv)
	if err != nil {
		return client.Profile{}, err
	}
	var environment client.Profile
	for _, field := range settingsTable {
		*field.of(&environment) = getenv(field.variable)
	}
	for _, layer := range []*client.Profile{&environment, &s.flag} {
		overlay(&profile, layer)
	}
	if profile.Address == "" {
		return client.Profile{}, usagef("no service address: set %s to a profile file, such as the one that "+
			`"kmsd dev" writes, or give --address`, profileVariable)
	}
	if err := profile.Validate(); err != nil {
		return client.Profile{}, usagef("%v", err)
	}
	return profile, nil
}

// overlay puts the fields that a layer has over those below. An address that is a unix
// socket leaves out the TLS credentials below: they belong to another address.
func overlay(profile, layer *client.Profile) {
	for _, field := range settingsTable {
		if field.tls && layer.IsUnix() {
			*field.of(profile) = ""
		}
		if value := *field.of(layer); value != "" {
			*field.of(profile) = value
		}
	}
}

// load reads the profile file. One that was named must exist; the one in the user's
// configuration directory need not.
func (s *settings) load(getenv func(string) string) (client.Profile, error) {
	path, named := s.file, true
	if path == "" {
		path = getenv(profileVariable)
	}
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return client.Profile{}, nil //nolint:nilerr // neither HOME nor XDG_CONFIG_HOME: there is no such file
		}
		path, named = filepath.Join(dir, "keyholt", "profile.yaml"), false
	}
	profile, err := client.LoadProfile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return client.Profile{}, nil
	}
	if err != nil {
		return client.Profile{}, usagef("client profile: %v", err)
	}
	return profile, nil
}
