package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxPIN is the most bytes that a PIN file may have: PKCS#11 tokens take up to 255.
const maxPIN = 1024

// credentialsEnv is where systemd puts the credentials of a service.
const credentialsEnv = "CREDENTIALS_DIRECTORY"

// credential is the file of a secret that systemd hands over under a name
// (LoadCredential=NAME:...); empty if there is none.
func credential(name string) string {
	dir := os.Getenv(credentialsEnv)
	if dir == "" {
		return ""
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil { //nolint:gosec // the environment of this process is its operator's
		return ""
	}
	return path
}

// readPIN reads the PIN from its file. It is read anew for each login, so that it does not
// stay in memory; the caller wipes it.
func readPIN(path string) ([]byte, error) { return readSecret("PIN", path, maxPIN) }

// readSecret reads what a file that only its owner may use has, of at most so many bytes,
// without the newline at its end. Errors match errConfiguration and name the file, never
// what is in it.
func readSecret(kind, path string, most int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, as(errConfiguration, err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, as(errConfiguration, err)
	}
	if err := checkSecretMode(kind, path, info.Mode()); err != nil {
		return nil, err
	}
	buffer := make([]byte, most+1)
	n, err := io.ReadFull(file, buffer)
	switch {
	case err == nil:
		clear(buffer)
		return nil, as(errConfiguration, fmt.Errorf("%s file %s has more than %d bytes", kind, path, most))
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		clear(buffer)
		return nil, as(errConfiguration, err)
	}
	secret := bytes.TrimRight(buffer[:n], "\r\n")
	if len(secret) == 0 {
		return nil, as(errConfiguration, fmt.Errorf("%s file %s is empty", kind, path))
	}
	return secret, nil
}

// checkSecretMode refuses a file that others than its owner may use. systemd lets the
// service's user read a credential by an access control list, which shows as permission
// of the group: there the group is no finding.
func checkSecretMode(kind, path string, mode os.FileMode) error {
	if !mode.IsRegular() {
		return as(errConfiguration, fmt.Errorf("%s file %s is no regular file", kind, path))
	}
	others := os.FileMode(0o077)
	if dir := os.Getenv(credentialsEnv); dir != "" && filepath.Dir(path) == filepath.Clean(dir) {
		others = 0o007
	}
	if mode.Perm()&others != 0 {
		return as(errConfiguration, fmt.Errorf("%s file %s has mode %04o: others than its owner can use it; run: chmod 600 %s",
			kind, path, mode.Perm(), path))
	}
	return nil
}
