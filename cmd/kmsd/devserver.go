package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyholt/keyholt/hsm/pkcs11hsm"
)

// devLabel is the label of the token of kmsd dev.
const devLabel = "keyholt-dev"

// devServer makes what a server for development needs, all in one directory. Files that
// must be complete appear under their names only when they are.
type devServer struct {
	dir     string // absolute
	listen  string
	metrics string // address; empty: none
	out     io.Writer

	conf *config // that config returned; prepare completes it
}

func (d *devServer) path(elements ...string) string {
	return filepath.Join(append([]string{d.dir}, elements...)...)
}

// config is the configuration that the server runs with.
func (d *devServer) config() (*config, error) {
	module, err := findSoftHSM(softHSMPaths[:])
	if err != nil {
		return nil, err
	}
	socket, err := devSocket(d.dir)
	if err != nil {
		return nil, err
	}
	c := defaultConfig()
	c.DataDir = d.dir
	c.Listen = listenConfig{GRPC: d.listen, Unix: socket, Metrics: d.metrics}
	c.TLS = tlsConfig{
		CertFile:     d.path("tls", "server.pem"),
		KeyFile:      d.path("tls", "server-key.pem"),
		ClientCAFile: d.path("tls", "ca.pem"),
	}
	c.HSM.Module = module
	c.HSM.TokenLabel = devLabel
	c.HSM.PINFile = d.path("pin")
	c.Log.Format = "text"
	c.inDataDir()
	d.conf = &c
	return &c, nil
}

// prepare makes what is missing. The directory is locked meanwhile.
func (d *devServer) prepare(context.Context) error {
	const mark = "This directory was made by kmsd dev and holds a token, its PIN and private keys for\n" +
		"development. It can be deleted when it is not wanted any more, and everything that was\n" +
		"encrypted with it is lost then.\n"
	err := d.writeFile(devMark, []byte(mark))
	if err == nil && filepath.Dir(d.conf.Listen.Unix) != d.dir {
		err = makeOwnDirectory(filepath.Dir(d.conf.Listen.Unix))
	}
	if err == nil {
		err = d.prepareToken()
	}
	if err == nil {
		err = d.prepareTLS()
	}
	return err
}

// prepareToken points SoftHSM2 to the token in the directory. There is none until its
// directory has its final name: what an interrupted start left behind is made again, and
// no key was in it.
func (d *devServer) prepareToken() error {
	if err := os.MkdirAll(d.path("softhsm"), 0o700); err != nil {
		return as(errStorage, err)
	}
	tokens := d.path("softhsm", "tokens")
	if _, err := os.Stat(tokens); errors.Is(err, os.ErrNotExist) {
		if err := d.makeToken(tokens); err != nil {
			return err
		}
	}
	return d.useTokens(tokens)
}

// makeToken makes the PINs and a token in the directory tokens.
func (d *devServer) makeToken(tokens string) error {
	unfinished := tokens + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return as(errStorage, err)
	}
	if err := os.Mkdir(unfinished, 0o700); err != nil {
		return as(errStorage, err)
	}
	pin, soPIN := newPIN(), newPIN()
	if err := d.writeFile("pin", append(pin, '\n')); err != nil {
		return err
	}
	if err := d.writeFile("so-pin", append(soPIN, '\n')); err != nil {
		return err
	}
	if err := d.useTokens(unfinished); err != nil {
		return err
	}
	if _, err := pkcs11hsm.InitToken(d.conf.HSM.Module, devLabel, soPIN, pin); err != nil {
		return fmt.Errorf("make a SoftHSM2 token: %w", err)
	}
	if err := os.Rename(unfinished, tokens); err != nil {
		return as(errStorage, err)
	}
	return nil
}

// useTokens points SoftHSM2, which reads its configuration whenever the module is
// initialised, to a directory of tokens. With cgo os.Setenv changes C's environment too. The
// mechanisms are those that are needed: SoftHSM2 copies its list for each operation.
func (d *devServer) useTokens(tokens string) error {
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n" +
		"slots.mechanisms = " + strings.Join(pkcs11hsm.Mechanisms(), ",") + "\n"
	if err := d.writeFile(filepath.Join("softhsm", "softhsm2.conf"), []byte(text)); err != nil {
		return err
	}
	return os.Setenv("SOFTHSM2_CONF", d.path("softhsm", "softhsm2.conf"))
}

// newPIN draws a PIN of 128 bits, in digits and letters.
func newPIN() []byte {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return hex.AppendEncode(nil, random)
}

// writeFile writes a file in the directory, for its owner alone, all of it or nothing.
func (d *devServer) writeFile(name string, content []byte) error {
	path := d.path(name)
	unfinished := path + ".new"
	if err := os.WriteFile(unfinished, content, 0o600); err != nil {
		return as(errStorage, err)
	}
	if err := os.Rename(unfinished, path); err != nil {
		return as(errStorage, err)
	}
	return nil
}

// ready writes the client profiles and says how to talk to the server.
func (d *devServer) ready(listeners []net.Listener) error {
	tls, err := d.writeProfiles(listeners)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(d.out, `kmsd is ready.
Everything is in %[1]s; this is for development only.

To use it, in another terminal:
  export KEYHOLT_PROFILE=%[2]s
  kmsctl doctor
  kmsctl key create orders
  kmsctl encrypt orders --in FILE --out FILE.khf
  kmsctl decrypt orders --in FILE.khf

Over TLS with a client certificate (%[3]s):
  export KEYHOLT_PROFILE=%[4]s

To look into the token:
  export SOFTHSM2_CONF=%[5]s
  pkcs11-tool --module %[6]s --token-label %[7]s --login --pin "$(cat %[8]s)" --list-objects

Stop it with Ctrl-C.
`, shellQuote(d.dir), shellQuote(d.path("profile.yaml")), tls, shellQuote(d.path("profile-tls.yaml")),
		shellQuote(d.path("softhsm", "softhsm2.conf")), shellQuote(d.conf.HSM.Module), devLabel, shellQuote(d.path("pin")))
	return err
}

// shellQuote quotes a word for a shell, if it needs that.
func shellQuote(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@"
	if strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
