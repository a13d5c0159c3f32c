package sshsigner_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/client"
	"github.com/keyholt/keyholt/kms/client/sshsigner"
)

// An SSH authority whose private key stays in the HSM certifies a user's key for an hour.
func ExampleNew() {
	keys := map[string]kms.Algorithm{"ssh-ca": kms.AlgorithmEd25519}
	err := withService(keys, func(ctx context.Context, c *client.Client) error {
		key, err := kms.ParseKeyName("namespaces/default/keys/ssh-ca")
		if err != nil {
			return err
		}
		signer, err := c.Signer(ctx, key)
		if err != nil {
			return err
		}
		authority, err := sshsigner.New(signer) // the one line that knows the service
		if err != nil {
			return err
		}

		public, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		userKey, err := ssh.NewPublicKey(public)
		if err != nil {
			return err
		}
		certificate := &ssh.Certificate{
			Key: userKey, CertType: ssh.UserCert, KeyId: "alice@example.com", ValidPrincipals: []string{"alice"},
			ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
		}
		if err := certificate.SignCert(rand.Reader, authority); err != nil {
			return err
		}

		checker := ssh.CertChecker{IsUserAuthority: func(k ssh.PublicKey) bool {
			return string(k.Marshal()) == string(authority.PublicKey().Marshal())
		}}
		fmt.Println(certificate.Signature.Format, checker.CheckCert("alice", certificate))
		return nil
	})
	if err != nil {
		fmt.Println("error:", err)
	}
	// Output: ssh-ed25519 <nil>
}
