package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

func newEncrypt(a *app) *cobra.Command {
	var f dataFlags
	cmd := &cobra.Command{
		Use:   "encrypt KEY",
		Short: "Encrypt a file or standard input",
		Long: `Encrypt a file or standard input of any size.

The data is encrypted on this machine under a fresh data key; the service wraps the
data key and never sees the data. With --remote up to 64 KiB go to the service
instead, and its key encrypts them. "kmsctl decrypt" tells the two results apart by
their first bytes: "KEYHOLT" for the first, "KH" for the second.

An encryption context (--context) is bound to the result and not stored in it:
decryption needs exactly the same.`,
		Example: `  kmsctl encrypt backups --in database.dump --out database.khf
  tar c /srv | kmsctl encrypt backups --context host=web1 > srv.tar.khf`,
		Args:              between(1, 1),
		ValidArgsFunction: a.completeKey,
	}
	f.add(cmd, "let the service encrypt, up to 64 KiB")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		key, err := parseKey(args[0], conn.namespace)
		if err != nil {
			return err
		}
		binding, err := f.binding()
		if err != nil {
			return err
		}
		if err := a.refuseTerminal(f.out); err != nil {
			return err
		}
		return a.transfer(ctx, &f, "encrypting", func(dst io.Writer, src io.Reader) error {
			if f.remote {
				return encryptRemote(ctx, conn, key, binding, dst, src)
			}
			return conn.EncryptStream(ctx, key, binding.Context, dst, src)
		})
	})
	return cmd
}

func encryptRemote(ctx context.Context, conn *connection, key kms.KeyName, binding kms.Binding,
	dst io.Writer, src io.Reader,
) error {
	plaintext, err := readAtMost(src, envelope.MaxPlaintextSize, "leave out --remote")
	defer kms.Secret(plaintext).Wipe()
	if err != nil {
		return err
	}
	result, err := conn.api.Encrypt(ctx, kms.Principal{}, &kms.EncryptRequest{
		Key: key, Plaintext: plaintext, Binding: binding,
	})
	if err != nil {
		return err
	}
	_, err = dst.Write(result.Ciphertext)
	return err
}

func newDecrypt(a *app) *cobra.Command {
	var f dataFlags
	cmd := &cobra.Command{
		Use:   "decrypt [KEY]",
		Short: "Decrypt what encrypt has made",
		Long: `Decrypt what "kmsctl encrypt" has made. The first bytes say how: "KEYHOLT" is
decrypted on this machine, after the service has unwrapped the data key; "KH" is
decrypted by the service.

The input names the key version it needs. KEY, if given, is the key that it must
belong to; without KEY it may be any key of the namespace.

Nothing is written that was not authenticated. That a large input was cut off shows
only at its end: --out FILE appears only if all is well, while a reader of standard
output has to heed the exit code.`,
		Example: `  kmsctl decrypt --in database.khf --out database.dump
  kmsctl decrypt backups --context host=web1 < srv.tar.khf | tar x`,
		Args:              between(0, 1),
		ValidArgsFunction: a.completeKey,
	}
	f.add(cmd, "accept only what \"encrypt --remote\" has made")
	cmd.RunE = a.connected(func(ctx context.Context, conn *connection, args []string) error {
		if err := a.refuseOutput(); err != nil {
			return err
		}
		d := decryption{conn: conn, parent: conn.namespace, remote: f.remote}
		var err error
		if len(args) > 0 {
			if d.key, err = parseKey(args[0], conn.namespace); err != nil {
				return err
			}
			d.parent = d.key.Namespace()
		}
		if d.binding, err = f.binding(); err != nil {
			return err
		}
		return a.transfer(ctx, &f, "decrypting", func(dst io.Writer, src io.Reader) error {
			return d.run(ctx, dst, src)
		})
	})
	return cmd
}

// decryption is one call of decrypt.
type decryption struct {
	conn    *connection
	parent  kms.NamespaceName
	key     kms.KeyName // zero: any of parent
	binding kms.Binding
	remote  bool
}

// blobMagic begins a ciphertext of the service (FORMAT.md, section 1).
const blobMagic = "KH"

// fileMagic begins an encrypted file.
func fileMagic() []byte {
	prefix := envelope.FileID{}.Prefix()
	return prefix[:len(prefix)-envelope.FileIDSize-1] // without version and id
}

func (d *decryption) run(ctx context.Context, dst io.Writer, src io.Reader) error {
	buffered := bufio.NewReader(src)
	start, err := buffered.Peek(len(fileMagic()))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case len(start) == 0:
		return errors.New("the input is empty: there is nothing to decrypt")
	case bytes.Equal(start, fileMagic()):
		if d.remote {
			return errors.New("the input was encrypted locally: leave out --remote")
		}
		return d.conn.DecryptStream(ctx, d.parent, d.key, d.binding.Context, dst, buffered)
	case bytes.HasPrefix(start, []byte(blobMagic)):
		return d.decryptRemote(ctx, dst, buffered)
	default:
		return fmt.Errorf("the input is nothing that \"kmsctl encrypt\" makes: it begins with neither %q nor %q",
			fileMagic(), blobMagic)
	}
}

func (d *decryption) decryptRemote(ctx context.Context, dst io.Writer, src io.Reader) error {
	ciphertext, err := readAtMost(src, envelope.MaxBlobSize, "it is no single ciphertext of the service")
	if err != nil {
		return err
	}
	result, err := d.conn.api.Decrypt(ctx, kms.Principal{}, &kms.DecryptRequest{
		Parent: d.parent, Key: d.key, Ciphertext: ciphertext, Binding: d.binding,
	})
	if err != nil {
		return err
	}
	defer result.Plaintext.Wipe()
	_, err = dst.Write(result.Plaintext)
	return err
}

// readAtMost reads all of src, which must not be longer.
func readAtMost(src io.Reader, most int, next string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(src, int64(most)+1))
	if err != nil {
		return data, err
	}
	if len(data) > most {
		return data, fmt.Errorf("the input is longer than %d bytes: %s", most, next)
	}
	return data, nil
}

// readSome is readAtMost of what must not be empty either.
func readSome(src io.Reader, most int, next string) ([]byte, error) {
	data, err := readAtMost(src, most, next)
	if err == nil && len(data) == 0 {
		err = fmt.Errorf("the input is empty: %s", next)
	}
	return data, err
}
