package sshsigner_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/client/sshsigner"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// withSigners runs a test with a signer of each algorithm.
func withSigners(t *testing.T, algorithms []kms.Algorithm, test func(a kms.Algorithm, s *client.Signer)) {
	t.Helper()
	keys := make(map[string]kms.Algorithm)
	for _, a := range algorithms {
		keys[strings.ToLower(a.String())] = a
	}
	must(t, withService(keys, func(ctx context.Context, c *client.Client) error {
		for id, a := range keys {
			key, err := kms.ParseKeyName("namespaces/default/keys/" + id)
			must(t, err)
			s, err := c.Signer(ctx, key)
			must(t, err)
			test(a, s)
		}
		return nil
	}))
}

// Each key signs in the one way that it can, as host key and as a user's key, and certifies.
func TestSigners(t *testing.T) {
	want := map[kms.Algorithm]string{
		kms.AlgorithmECP256SHA256: "ecdsa-sha2-nistp256", kms.AlgorithmECP384SHA384: "ecdsa-sha2-nistp384",
		kms.AlgorithmECP521SHA512: "ecdsa-sha2-nistp521", kms.AlgorithmEd25519: "ssh-ed25519",
		kms.AlgorithmRSA2048PKCS1SHA256: "rsa-sha2-256", kms.AlgorithmRSA2048PKCS1SHA512: "rsa-sha2-512",
	}
	var algorithms []kms.Algorithm
	for a := range want {
		algorithms = append(algorithms, a)
	}
	tested := 0
	withSigners(t, algorithms, func(a kms.Algorithm, s *client.Signer) {
		tested++
		signer, err := sshsigner.New(s)
		must(t, err)
		if got := signer.Algorithms(); len(got) != 1 || got[0] != want[a] {
			t.Fatalf("%s offers %v", a, got)
		}
		signature, err := signer.Sign(rand.Reader, []byte("data"))
		must(t, err)
		if signature.Format != want[a] {
			t.Errorf("%s signs as %s", a, signature.Format)
		}
		must(t, signer.PublicKey().Verify([]byte("data"), signature))
		certificate := &ssh.Certificate{Key: signer.PublicKey(), CertType: ssh.HostCert, ValidBefore: ssh.CertTimeInfinity}
		must(t, certificate.SignCert(rand.Reader, signer))
		must(t, (&ssh.CertChecker{}).CheckCert("", certificate))
		connect(t, a, signer)
	})
	if tested != len(want) {
		t.Fatalf("%d algorithms were tested", tested)
	}
}

// connect lets a server and a client with the key speak SSH.
func connect(t *testing.T, a kms.Algorithm, signer ssh.Signer) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	same := func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), signer.PublicKey().Marshal()) }
	server := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if !same(k) {
			return nil, errors.New("another key")
		}
		return nil, nil //nolint:nilnil // no permissions beyond the connection
	}}
	server.AddHostKey(signer)
	done := make(chan error, 1)
	go func() {
		near, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer near.Close()
		_, _, _, err = ssh.NewServerConn(near, server)
		done <- err
	}()
	far, err := net.Dial("tcp", listener.Addr().String())
	must(t, err)
	defer far.Close()
	c, _, _, err := ssh.NewClientConn(far, "pipe", &ssh.ClientConfig{
		User: "alice", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(signer.PublicKey()),
	})
	if err != nil {
		t.Fatalf("%s: %v", a, err)
	}
	if err := <-done; err != nil {
		t.Errorf("%s: server: %v", a, err)
	}
	_ = c.Close() // the server may have gone first
	_ = c.Wait()
}

// One signer serves many goroutines, each of which gets the signature of its own data.
func TestConcurrentSignatures(t *testing.T) {
	withSigners(t, []kms.Algorithm{kms.AlgorithmEd25519, kms.AlgorithmRSA2048PKCS1SHA256}, func(a kms.Algorithm, s *client.Signer) {
		signer, err := sshsigner.New(s)
		must(t, err)
		var running sync.WaitGroup
		for i := range 32 {
			running.Go(func() {
				for round := range 4 {
					data := fmt.Appendf(nil, "%d of %d", round, i)
					signature, err := signer.Sign(rand.Reader, data)
					if err != nil {
						t.Errorf("%s: %v", a, err)
						return
					}
					if err := signer.PublicKey().Verify(data, signature); err != nil {
						t.Errorf("%s: %q: %v", a, data, err)
					}
				}
			})
		}
		running.Wait()
		ended, cancel := context.WithCancel(s.Context())
		cancel()
		signer, err = sshsigner.New(s.WithContext(ended))
		must(t, err)
		if _, err := signer.Sign(rand.Reader, []byte("data")); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, with an ended context: %v", a, err)
		}
	})
}

func TestWhatSSHDoesNotHave(t *testing.T) {
	withSigners(t, []kms.Algorithm{kms.AlgorithmRSA2048PSSSHA256, kms.AlgorithmRSA2048PKCS1SHA384}, func(a kms.Algorithm, s *client.Signer) {
		if _, err := sshsigner.New(s); !errors.Is(err, sshsigner.ErrAlgorithm) || !strings.Contains(err.Error(), a.String()) {
			t.Errorf("%s: %v", a, err)
		}
	})
}
