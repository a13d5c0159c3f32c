package softhsmtest_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client/sshsigner"
	softhsmtest "github.com/keyholt/keyholt/softhsm-test"
)

const (
	sshUser = "alice"
	sshHost = "host.example"
)

// sshWorld is an authority and a host whose keys are in the HSM, and a user of OpenSSH.
type sshWorld struct {
	*surface
	ssh, keygen string // programs
	authority   ssh.Signer
	host        ssh.Signer // with a certificate
}

// certify signs a certificate and returns it as OpenSSH writes it in a file.
func (w *sshWorld) certify(certificate *ssh.Certificate, principal string) []byte {
	w.Helper()
	certificate.Serial, certificate.KeyId, certificate.ValidPrincipals = 7, "certified in the HSM", []string{principal}
	certificate.ValidBefore = uint64(time.Now().Add(time.Hour).Unix())
	w.must(certificate.SignCert(rand.Reader, w.authority))
	return ssh.MarshalAuthorizedKey(certificate)
}

// newSSHWorld makes an authority of an algorithm, and a host's key and a user's that it has
// certified. The user's is made by ssh-keygen: the files user, user.pub and user-cert.pub.
func newSSHWorld(t *testing.T, a kms.Algorithm) *sshWorld {
	t.Helper()
	w := &sshWorld{
		ssh:    softhsmtest.RequireFile(t, "ssh (package openssh-client)", "/usr/bin/ssh", "/opt/homebrew/bin/ssh"),
		keygen: softhsmtest.RequireFile(t, "ssh-keygen (package openssh-client)", "/usr/bin/ssh-keygen", "/opt/homebrew/bin/ssh-keygen"),
	}
	w.surface = newSurface(t)
	var err error
	w.authority, err = sshsigner.New(w.signer(a))
	w.must(err)

	// The host has a key of its own in the HSM.
	name := w.key("host")
	_, err = w.API().CreateKey(t.Context(), kms.Principal{}, &kms.CreateKeyRequest{Name: name, Algorithm: a})
	w.must(err)
	inHSM, err := w.Signer(t.Context(), name)
	w.must(err)
	key, err := sshsigner.New(inHSM)
	w.must(err)
	certificate := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert}
	w.certify(certificate, sshHost)
	w.host, err = ssh.NewCertSigner(certificate, key)
	w.must(err)
	w.write("known_hosts", append([]byte("@cert-authority "+sshHost+" "), ssh.MarshalAuthorizedKey(w.authority.PublicKey())...))

	w.runProgram(w.keygen, "-q", "-t", "ed25519", "-N", "", "-f", "user")
	public, _, _, _, err := ssh.ParseAuthorizedKey(w.read("user.pub"))
	w.must(err)
	w.write("user-cert.pub", w.certify(&ssh.Certificate{Key: public, CertType: ssh.UserCert}, sshUser))
	return w
}

// Certificates that an authority in the HSM has signed are accepted by OpenSSH: ssh-keygen
// shows them, and ssh logs in by one, to a host whose key is in the HSM and certified, too.
func TestSSH(t *testing.T) {
	t.Parallel()
	for _, a := range []kms.Algorithm{
		kms.AlgorithmECP256SHA256, kms.AlgorithmECP384SHA384, kms.AlgorithmECP521SHA512, kms.AlgorithmEd25519,
		kms.AlgorithmRSA2048PKCS1SHA256, kms.AlgorithmRSA2048PKCS1SHA512,
	} {
		t.Run(a.String(), func(t *testing.T) {
			w := newSSHWorld(t, a)
			shown := string(w.runProgram(w.keygen, "-L", "-f", "user-cert.pub"))
			for _, want := range []string{
				"ssh-ed25519-cert-v01@openssh.com user certificate", `Key ID: "certified in the HSM"`, sshUser,
				ssh.FingerprintSHA256(w.authority.PublicKey()),
			} {
				if !strings.Contains(shown, want) {
					t.Errorf("ssh-keygen -L does not show %q:\n%s", want, shown)
				}
			}
			if out := w.login("user"); out != greeting {
				t.Errorf("ssh got %q", out)
			}
			w.refusesChanged()
		})
	}
}

// refusesChanged spoils the signature of the certificate: then ssh-keygen does not read it.
func (w *sshWorld) refusesChanged() {
	w.Helper()
	public, _, _, _, err := ssh.ParseAuthorizedKey(w.read("user-cert.pub"))
	w.must(err)
	certificate, ok := public.(*ssh.Certificate)
	if !ok {
		w.Fatalf("a certificate is a %T", public)
	}
	certificate.Serial++
	w.write("changed-cert.pub", ssh.MarshalAuthorizedKey(certificate))
	cmd := exec.CommandContext(w.Context(), w.keygen, "-L", "-f", filepath.Join(w.dir, "changed-cert.pub"))
	out, err := cmd.CombinedOutput()
	if exit := new(exec.ExitError); !errors.As(err, &exit) {
		w.Errorf("ssh-keygen shows a certificate that was changed (%v):\n%s", err, out)
	}
}

// login has OpenSSH's client log in with a key and its certificate, and returns what the
// host sends.
func (w *sshWorld) login(key string) string {
	w.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	defer func() { _ = listener.Close() }() // ends the host that no client has come to
	served := make(chan error, 1)
	go func() { served <- w.serveOne(listener) }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	w.must(err)
	out := w.runProgram(w.ssh, "-F", "none", "-p", port, "-l", sshUser, "-i", key,
		"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile="+filepath.Join(w.dir, "known_hosts"), "-o", "GlobalKnownHostsFile=none",
		"-o", "HostKeyAlias="+sshHost, "127.0.0.1", "greet")
	w.must(<-served)
	return string(out)
}

// serveOne is a host: it lets in whoever has a certificate of the authority, and greets.
func (w *sshWorld) serveOne(listener net.Listener) error {
	checker := ssh.CertChecker{IsUserAuthority: func(key ssh.PublicKey) bool {
		return bytes.Equal(key.Marshal(), w.authority.PublicKey().Marshal())
	}}
	config := &ssh.ServerConfig{PublicKeyCallback: checker.Authenticate}
	config.AddHostKey(w.host)
	accepted, err := listener.Accept()
	if err != nil {
		return err
	}
	connection, channels, requests, err := ssh.NewServerConn(accepted, config)
	if err != nil {
		return fmt.Errorf("the host: %w", err)
	}
	defer func() { _ = connection.Close() }() // by the client, if all went well
	go ssh.DiscardRequests(requests)
	for opened := range channels {
		channel, asked, err := opened.Accept()
		if err != nil {
			return err
		}
		for request := range asked {
			if request.Type != "exec" {
				_ = request.Reply(false, nil) // the client goes on without
				continue
			}
			if err := errors.Join(request.Reply(true, nil), greetOver(channel)); err != nil {
				return err
			}
		}
	}
	return nil
}

func greetOver(channel ssh.Channel) error {
	_, err := io.WriteString(channel, greeting)
	_, statusErr := channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
	return errors.Join(err, statusErr, channel.Close())
}
