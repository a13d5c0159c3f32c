package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
)

func newDataKey(a *app) *cobra.Command {
	return group("datakey", "Generate, unwrap and rewrap data keys",
		newDataKeyGenerate(a),
		newDataKeyUnwrap(a),
		newDataKeyRewrap(a),
	)
}

func newDataKeyGenerate(a *app) *cobra.Command {
	var (
		count, size  int
		without      bool
		show         bool
		plaintextOut string
		force        bool
		pairs        []string
	)
	cmd := &cobra.Command{
		Use:   "generate KEY",
		Short: "Generate data keys",
		Long: `Generate data keys and print them wrapped, as base64, one per line.

The plaintext keys leave the service only if it is said where they go:
--plaintext-out FILE writes them as base64 lines to a file that only its owner can
read, --show-plaintext prints each behind its wrapped key. --without-plaintext says
expressly that they are not wanted, which is also the default.`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.IntVar(&count, "count", 1, "how many")
	flags.IntVar(&size, "size", 32, "bytes of each, 16 to 64")
	flags.BoolVar(&without, "without-plaintext", false, "wrapped keys only (the default)")
	flags.BoolVar(&show, "show-plaintext", false, "print the plaintext keys too")
	flags.StringVar(&plaintextOut, "plaintext-out", "", "write the plaintext keys to this file, with mode 0600")
	flags.BoolVar(&force, "force", false, "replace the file if it exists")
	flags.StringArrayVar(&pairs, "context", nil, "encryption context, as KEY=VALUE; may be repeated")
	cmd.MarkFlagsMutuallyExclusive("without-plaintext", "show-plaintext")
	cmd.MarkFlagsMutuallyExclusive("without-plaintext", "plaintext-out")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		key, err := parseKey(args[0], conn.namespace)
		if err != nil {
			return err
		}
		if count < 1 {
			return usagef("--count %d: want at least 1", count)
		}
		encryptionContext, err := parsePairs("context", pairs)
		if err != nil {
			return err
		}
		request := kms.GenerateDataKeysRequest{
			Key: key, Size: size, WithoutPlaintext: !show && plaintextOut == "",
			Binding: kms.Binding{Context: encryptionContext},
		}
		sink, err := a.newDataKeySink(ctx, plaintextOut, force, show)
		if err != nil {
			return err
		}
		for left := count; left > 0; left -= request.Count {
			request.Count = min(left, kms.MaxItems)
			results, err := conn.api.GenerateDataKeys(ctx, kms.Principal{}, &request)
			if err := sink.add(results, err); err != nil {
				return err
			}
		}
		return sink.finish()
	})
	return cmd
}

func newDataKeyUnwrap(a *app) *cobra.Command {
	var (
		plaintextOut string
		force        bool
		pairs        []string
	)
	cmd := &cobra.Command{
		Use:   "unwrap [KEY]",
		Short: "Unwrap data keys from standard input",
		Long: `Unwrap data keys: wrapped keys come as base64, one per line, on standard input; the
plaintext keys go out as base64, one per line, to standard output or to a file that
only its owner can read (--plaintext-out).

A key that cannot be unwrapped gives an empty line, so that the lines of input and
output belong together, and its error goes to standard error; the exit code is then 1.
KEY, if given, is the key that must have wrapped them.`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeKey,
	}
	flags := cmd.Flags()
	flags.StringVar(&plaintextOut, "plaintext-out", "", "write the plaintext keys to this file, with mode 0600")
	flags.BoolVar(&force, "force", false, "replace the file if it exists")
	flags.StringArrayVar(&pairs, "context", nil, "encryption context, as KEY=VALUE; may be repeated")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		parent, key, err := expectedKey(args, conn.namespace)
		if err != nil {
			return err
		}
		encryptionContext, err := parsePairs("context", pairs)
		if err != nil {
			return err
		}
		sink, err := a.newDataKeySink(ctx, plaintextOut, force, plaintextOut == "")
		if err != nil {
			return err
		}
		sink.unwrapping = true
		return a.eachBatch(ctx, sink, func(items []kms.DataKeyItem) ([]kms.DataKeyResult, error) {
			return conn.api.UnwrapDataKeys(ctx, kms.Principal{}, &kms.UnwrapDataKeysRequest{
				Parent: parent, Key: key, Items: items, Binding: kms.Binding{Context: encryptionContext},
			})
		})
	})
	return cmd
}

func newDataKeyRewrap(a *app) *cobra.Command {
	var pairs []string
	cmd := &cobra.Command{
		Use:   "rewrap [KEY]",
		Short: "Wrap data keys from standard input again, under the primary version",
		Long: `Wrap data keys again under the primary version of their key; the plaintext stays
inside the service. Wrapped keys come as base64, one per line, on standard input; the
new ones go out likewise.

A key that cannot be rewrapped gives an empty line, so that the lines of input and
output belong together, and its error goes to standard error; the exit code is then 1.
KEY, if given, is the key that must have wrapped them.`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeKey,
	}
	cmd.Flags().StringArrayVar(&pairs, "context", nil, "encryption context, as KEY=VALUE; may be repeated")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		parent, key, err := expectedKey(args, conn.namespace)
		if err != nil {
			return err
		}
		encryptionContext, err := parsePairs("context", pairs)
		if err != nil {
			return err
		}
		sink, err := a.newDataKeySink(ctx, "", false, false)
		if err != nil {
			return err
		}
		return a.eachBatch(ctx, sink, func(items []kms.DataKeyItem) ([]kms.DataKeyResult, error) {
			return conn.api.RewrapDataKeys(ctx, kms.Principal{}, &kms.RewrapDataKeysRequest{
				Parent: parent, Key: key, Items: items, Binding: kms.Binding{Context: encryptionContext},
			})
		})
	})
	return cmd
}

// expectedKey is the key of an optional argument, and the namespace of the ciphertexts.
func expectedKey(args []string, namespace kms.NamespaceName) (kms.NamespaceName, kms.KeyName, error) {
	if len(args) == 0 {
		return namespace, kms.KeyName{}, nil
	}
	key, err := parseKey(args[0], namespace)
	return key.Namespace(), key, err
}
