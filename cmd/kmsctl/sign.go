package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
)

func newSign(a *app) *cobra.Command {
	var (
		f      dataFlags
		number uint32
		raw    bool
	)
	cmd := &cobra.Command{
		Use:   "sign KEY",
		Short: "Sign a file or standard input",
		Long: `Sign a file or standard input with an ASYMMETRIC_SIGN key. The digest is computed
on this machine, of data of any size, by the hash of the key's algorithm; the HSM signs
it. A key of EC_SIGN_ED25519 signs the data itself, inside the HSM: up to 64 KiB.

The signature is written as the algorithm has it, in bytes: of ECDSA in ASN.1 (DER), as
OpenSSL and X.509 have it, or with --raw as r || s, as JSON Web Signatures have it.

A signature does not tell which version made it. Standard error does: keep it with the
signature, for "kmsctl verify --version" after a rotation.`,
		Example: `  kmsctl sign releases --in app.tar.gz --out app.tar.gz.sig
  sha256sum app.tar.gz | kmsctl sign releases > sums.sig`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	f.addFiles(cmd)
	addVersionNumber(cmd, &number)
	cmd.Flags().BoolVar(&raw, "raw", false, "of ECDSA: r || s instead of ASN.1; other signatures have one form only")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		named, err := parseNamed(args[0], number, conn.namespace)
		if err != nil {
			return err
		}
		if err := a.refuseTerminal(f.out); err != nil {
			return err
		}
		algorithm, err := signingAlgorithm(ctx, conn, named.key)
		if err != nil {
			return err
		}
		return a.transfer(ctx, &f, "hashing", func(dst io.Writer, src io.Reader) error {
			input, err := readSigned(algorithm, src)
			if err != nil {
				return err
			}
			r := &kms.SignRequest{
				Digest: input.digest, DigestHash: input.hash, Message: input.message, Format: signatureFormat(raw),
			}
			r.Key, r.Version = named.either()
			result, err := conn.api.Sign(ctx, kms.Principal{}, r)
			if err != nil {
				return err
			}
			if _, err := dst.Write(result.Signature); err != nil {
				return err
			}
			a.sayf("kmsctl: signed by %s (%s)", result.Version, result.Algorithm)
			return nil
		})
	})
	return cmd
}

func signatureFormat(raw bool) kms.SignatureFormat {
	if raw {
		return kms.SignatureRaw
	}
	return kms.SignatureDER
}

// refuseTerminal keeps bytes off a terminal, unless --out - asks for them.
func (a *app) refuseTerminal(out string) error {
	if out == "" && a.terminal(a.stdout) {
		return usagef("the result is binary: give --out FILE, or --out - for the terminal all the same")
	}
	return nil
}

// signingAlgorithm is the algorithm of a signing key.
func signingAlgorithm(ctx context.Context, conn *connection, key kms.KeyName) (kms.Algorithm, error) {
	info, err := conn.api.GetKey(ctx, kms.Principal{}, key)
	if err != nil {
		return 0, err
	}
	if info.Purpose != kms.PurposeAsymmetricSign {
		return 0, &kms.Error{
			Sentinel: kms.ErrPurpose,
			Message:  fmt.Sprintf("%s is a key for %s (%s), not for %s", key, info.Purpose, info.Algorithm, kms.PurposeAsymmetricSign),
		}
	}
	return info.Algorithm, nil
}
