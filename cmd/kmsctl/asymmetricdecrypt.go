package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
)

func newAsymmetricDecrypt(a *app) *cobra.Command {
	var (
		f      dataFlags
		number uint32
	)
	cmd := &cobra.Command{
		Use:   "asymmetric-decrypt KEY",
		Short: "Decrypt what was encrypted with a public key",
		Long: `Decrypt, inside the HSM, what was encrypted with the public key of an
ASYMMETRIC_DECRYPT key: RSA-OAEP with the hash of the key's algorithm, also for MGF1, and
no label. The input is one ciphertext, as long as the modulus.

A ciphertext does not tell which version's public key made it: after a rotation name the
version with --version.`,
		Example: `  kmsctl public-key inbox --out inbox.pem
  openssl pkeyutl -encrypt -pubin -inkey inbox.pem -pkeyopt rsa_padding_mode:oaep \
    -pkeyopt rsa_oaep_md:sha256 -in secret -out secret.oaep
  kmsctl asymmetric-decrypt inbox --in secret.oaep`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	f.addFiles(cmd)
	addVersionNumber(cmd, &number)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		named, err := parseNamed(args[0], number, conn.namespace)
		if err != nil {
			return err
		}
		return a.transfer(ctx, &f, "decrypting", func(dst io.Writer, src io.Reader) error {
			ciphertext, err := readSome(src, kms.MaxSignature, "it is no single ciphertext of RSA-OAEP")
			if err != nil {
				return err
			}
			r := &kms.AsymmetricDecryptRequest{Ciphertext: ciphertext}
			r.Key, r.Version = named.either()
			result, err := conn.api.AsymmetricDecrypt(ctx, kms.Principal{}, r)
			if errors.Is(err, kms.ErrDecryptionFailed) {
				return &advisedError{err, "name the version whose public key was used with --version; if it is the right one, " +
					"the input was changed, or encrypted with another hash or a label."}
			}
			if err != nil {
				return err
			}
			defer result.Plaintext.Wipe()
			_, err = dst.Write(result.Plaintext)
			return err
		})
	})
	return cmd
}
