package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

func newMac(a *app) *cobra.Command {
	var (
		f      dataFlags
		number uint32
	)
	cmd := &cobra.Command{
		Use:   "mac KEY",
		Short: "Make the tag (HMAC) of a file or of standard input",
		Long: `Make the tag of a file or of standard input, 1 byte to 64 KiB, with a MAC key. The
HSM makes it, so the data goes there; of more data make a digest, and the tag of that.

The tag is written in bytes, whole. It does not tell which version made it. Standard
error does: keep it with the tag, for "kmsctl mac verify --version" after a rotation.

(A key with the name verify is default/verify.)`,
		Example: `  kmsctl mac webhooks --in body.json --out body.mac
  kmsctl mac verify webhooks --mac body.mac --in body.json`,
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
		if err := a.refuseTerminal(f.out); err != nil {
			return err
		}
		return a.transfer(ctx, &f, "reading", func(dst io.Writer, src io.Reader) error {
			message, err := readMessage(src)
			if err != nil {
				return err
			}
			r := &kms.GenerateMacRequest{Message: message}
			r.Key, r.Version = named.either()
			result, err := conn.api.GenerateMac(ctx, kms.Principal{}, r)
			if err != nil {
				return err
			}
			if _, err := dst.Write(result.Mac); err != nil {
				return err
			}
			a.sayf("kmsctl: made by %s (%s)", result.Version, result.Algorithm)
			return nil
		})
	})
	cmd.AddCommand(newMacVerify(a))
	return cmd
}

func readMessage(src io.Reader) ([]byte, error) {
	message, err := readAtMost(src, kms.MaxMessage, "make the tag of a digest of it")
	if err == nil && len(message) == 0 {
		err = &advisedError{
			errors.New("the input is empty: no tag is made of it, as messages have 1 byte to 64 KiB"),
			"see why the input is empty; of data that may be empty make a digest, and the tag of that.",
		}
	}
	return message, err
}

func newMacVerify(a *app) *cobra.Command {
	var (
		in, mac string
		number  uint32
	)
	cmd := &cobra.Command{
		Use:   "verify KEY --mac FILE",
		Short: "Verify the tag of a file or of standard input",
		Long: `Verify the tag of a file or of standard input. The exit code is 0 only if it is the
tag that the key version makes, whole.`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringVar(&in, "in", "", "input file; default or -: standard input")
	flags.StringVar(&mac, "mac", "", "file with the tag; required")
	addVersionNumber(cmd, &number)
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if mac == "" {
			return usagef("--mac FILE is required")
		}
		named, err := parseNamed(args[0], number, conn.namespace)
		if err != nil {
			return err
		}
		given, err := readFile(mac, kms.MaxSignature, "it is no tag")
		if err != nil {
			return err
		}
		src, _, closeIn, err := a.openIn(ctx, in)
		if err != nil {
			return err
		}
		defer closeIn()
		message, err := readMessage(src)
		if err != nil {
			return err
		}
		r := &kms.VerifyMacRequest{Message: message, Mac: given}
		r.Key, r.Version = named.either()
		verdict, err := conn.api.VerifyMac(ctx, kms.Principal{}, r)
		if err != nil {
			return err
		}
		if err := showOne(a, wire.EncodeVerifyMacResponse(verdict), macRow); err != nil {
			return err
		}
		if !verdict.Valid {
			return &advisedError{
				fmt.Errorf("the tag is not the one of %s (%s) and this input", verdict.Version, verdict.Algorithm),
				"another version may have made it: name it with --version. Else the input or the tag was changed.",
			}
		}
		return nil
	})
	return cmd
}

func macRow(v *kmsv1.VerifyMacResponse) []column {
	return []column{
		{name: "tag", value: validText(v.GetValid())},
		{name: "version", value: v.GetKeyVersion()},
		{name: "algorithm", value: algorithmText(v.GetAlgorithm())},
	}
}
