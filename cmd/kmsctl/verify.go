package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newVerify(a *app) *cobra.Command {
	var (
		in, signature      string
		number             uint32
		raw, revokedIsFine bool
	)
	cmd := &cobra.Command{
		Use:   "verify KEY --signature FILE",
		Short: "Verify a signature of a file or of standard input",
		Long: `Verify a signature of a file or of standard input, and show the state of the key
version. The exit code is 0 only if the signature is good: the version's, and the version
is not REVOKED. A revoked version's private key may be in other hands, and the
signature anybody's; --accept-revoked takes it all the same.

Without --version the signature must be that of the primary version.`,
		Example:           `  kmsctl verify releases --signature app.tar.gz.sig --in app.tar.gz --version 3`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringVar(&in, "in", "", "input file; default or -: standard input")
	flags.StringVar(&signature, "signature", "", "file with the signature, as sign has written it; required")
	flags.BoolVar(&raw, "raw", false, "of ECDSA: the signature is r || s instead of ASN.1")
	flags.BoolVar(&revokedIsFine, "accept-revoked", false, "accept signatures of a version that is REVOKED")
	addVersionNumber(cmd, &number)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if signature == "" {
			return usagef("--signature FILE is required")
		}
		named, err := parseNamed(args[0], number, conn.namespace)
		if err != nil {
			return err
		}
		given, err := readFile(signature, kms.MaxSignature, "it is no signature")
		if err != nil {
			return err
		}
		algorithm, err := signingAlgorithm(ctx, conn, named.key)
		if err != nil {
			return err
		}
		src, _, closeIn, err := a.openIn(ctx, in)
		if err != nil {
			return err
		}
		defer closeIn()
		input, err := readSigned(algorithm, src)
		if err != nil {
			return err
		}
		r := &kms.VerifyRequest{
			Digest: input.digest, DigestHash: input.hash, Message: input.message, Signature: given, Format: signatureFormat(raw),
		}
		r.Key, r.Version = named.either()
		verdict, err := conn.api.Verify(ctx, kms.Principal{}, r)
		if err != nil {
			return err
		}
		if err := showOne(a, wire.EncodeVerifyResponse(verdict), verdictRow); err != nil {
			return err
		}
		return judge(verdict, revokedIsFine)
	})
	return cmd
}

// judge is an error unless the signature is good.
func judge(v *kms.VerifyResult, revokedIsFine bool) error {
	switch {
	case !v.Valid:
		return &advisedError{
			fmt.Errorf("the signature is not one of %s (%s) and this input", v.Version, v.Algorithm),
			"another version may have made it: name it with --version. Else the input or the signature was changed.",
		}
	case v.State == kms.StateRevoked && !revokedIsFine:
		return &advisedError{
			fmt.Errorf("the signature is one of %s, but that is REVOKED: it may be anybody's", v.Version),
			"have it signed again; --accept-revoked takes it all the same.",
		}
	}
	return nil
}

func verdictRow(v *kmsv1.VerifyResponse) []column {
	return []column{
		{name: "signature", value: validText(v.GetValid())},
		{name: "version", value: v.GetKeyVersion()},
		{name: "state", value: stateText(v.GetState())},
		{name: "algorithm", value: algorithmText(v.GetAlgorithm())},
	}
}

func validText(valid bool) string {
	if valid {
		return "valid"
	}
	return "NOT VALID"
}

func algorithmText(a kmsv1.Algorithm) string { return strings.TrimPrefix(a.String(), "ALGORITHM_") }

// readFile reads a file, which must not be longer, nor empty.
func readFile(path string, most int, next string) ([]byte, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, usagef("%s is a directory", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := readAtMost(file, most, next)
	switch err = errors.Join(err, file.Close()); {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case len(data) == 0:
		return nil, fmt.Errorf("%s is empty: %s", path, next)
	}
	return data, nil
}
