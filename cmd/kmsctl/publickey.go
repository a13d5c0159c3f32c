package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
)

func newPublicKey(a *app) *cobra.Command {
	var (
		out, format string
		force       bool
		number      uint32
	)
	cmd := &cobra.Command{
		Use:   "public-key KEY",
		Short: "Get the public key of an asymmetric key",
		Long: `Get the public key of a version of an ASYMMETRIC_SIGN or ASYMMETRIC_DECRYPT key.

Formats: pem (RFC 7468), der (SubjectPublicKeyInfo, RFC 5280), jwk (RFC 7517).`,
		Example: `  kmsctl public-key releases --out releases.pem
  openssl dgst -sha256 -verify releases.pem -signature app.tar.gz.sig app.tar.gz`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringVar(&out, "out", "", "output file, which appears when it is complete; default or -: standard output")
	flags.BoolVar(&force, "force", false, "replace the output file if it exists")
	flags.StringVar(&format, "format", "pem", "pem, der or jwk")
	addVersionNumber(cmd, &number)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		named, err := parseNamed(args[0], number, conn.namespace)
		if err != nil {
			return err
		}
		r := &kms.GetPublicKeyRequest{}
		r.Key, r.Version = named.either()
		switch strings.ToLower(format) {
		case "pem":
			r.Format = kms.PublicKeyPEM
		case "jwk":
			r.Format = kms.PublicKeyJWK
		case "der":
			r.Format = kms.PublicKeyDER
			if err := a.refuseTerminal(out); err != nil {
				return err
			}
		default:
			return usagef("--format %q: want pem, der or jwk", format)
		}
		found, err := conn.api.GetPublicKey(ctx, kms.Principal{}, r)
		if err != nil {
			return err
		}
		if found.State == kms.StateRevoked {
			a.sayf("kmsctl: %s is REVOKED: do not trust what its private key has signed, and encrypt nothing for it", found.Version)
		}
		data := found.Key
		if r.Format == kms.PublicKeyJWK {
			data = append(data, '\n')
		}
		return a.writeOut(ctx, out, force, data)
	})
	return cmd
}

// writeOut writes data to where --out says.
func (a *app) writeOut(ctx context.Context, path string, force bool, data []byte) error {
	out, err := createOut(ctx, path, force, a.stdout)
	if err != nil {
		return err
	}
	if _, err := out.Write(data); err != nil {
		_ = out.abort() // the error of the write is the one to tell
		return err
	}
	return out.commit()
}
