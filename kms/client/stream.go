package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/envelope"
)

// ErrStream is wrapped by the error of an encrypted file whose data does not
// authenticate: it was changed, cut off or extended, or does not belong to its header.
var ErrStream = errors.New("the encrypted data does not authenticate")

// dataKeys is what local encryption needs of the service.
type dataKeys interface {
	GenerateDataKeys(context.Context, kms.Principal, *kms.GenerateDataKeysRequest) ([]kms.DataKeyResult, error)
	UnwrapDataKeys(context.Context, kms.Principal, *kms.UnwrapDataKeysRequest) ([]kms.DataKeyResult, error)
}

// EncryptStream reads src to its end and writes it to dst as an encrypted file
// (section 9 of package envelope's FORMAT.md). The data key comes from the service; the
// data is encrypted here, in segments of 1 MiB, and never sent. encryptionContext is
// bound to the data key and not stored: decryption needs it again.
//
// After an error dst holds something that does not decrypt.
func (c *Client) EncryptStream(ctx context.Context, key kms.KeyName, encryptionContext map[string]string,
	dst io.Writer, src io.Reader,
) error {
	return encryptStream(ctx, c.API(), key, encryptionContext, dst, src)
}

// DecryptStream reads an encrypted file from src to its end and writes the plaintext
// to dst. parent is the namespace that the file's key belongs to; key, if not zero, is
// the key that must have been used.
//
// Each segment is authenticated before it is written, but whether the file is complete
// shows at its end only: after an error that wraps [ErrStream], what dst holds is
// authentic and may be a part only. So write to a temporary file and rename it after
// success. Errors of the header wrap [envelope.ErrMalformed]; errors of the service are
// [*kms.Error] or gRPC statuses.
func (c *Client) DecryptStream(ctx context.Context, parent kms.NamespaceName, key kms.KeyName,
	encryptionContext map[string]string, dst io.Writer, src io.Reader,
) error {
	return decryptStream(ctx, c.API(), parent, key, encryptionContext, dst, src)
}

func encryptStream(ctx context.Context, service dataKeys, key kms.KeyName, encryptionContext map[string]string,
	dst io.Writer, src io.Reader,
) error {
	id := envelope.NewFileID()
	prefix := id.Prefix()
	results, err := service.GenerateDataKeys(ctx, kms.Principal{}, &kms.GenerateDataKeysRequest{
		Key:     key,
		Count:   1,
		Size:    envelope.FileKeySize,
		Binding: kms.Binding{Context: encryptionContext, AAD: prefix[:]},
	})
	dataKey, wrapped, err := only(results, err)
	defer dataKey.Wipe()
	if err != nil {
		return err
	}
	header, err := envelope.AppendFileHeader(nil, envelope.FileHeader{ID: id, WrappedKey: wrapped})
	if err != nil {
		return fmt.Errorf("the service returned a wrapped key that is not one: %w", err)
	}
	stream, err := newStream(dataKey)
	if err != nil {
		return err
	}
	if _, err := dst.Write(header); err != nil {
		return err
	}
	writer, err := stream.NewEncryptingWriter(dst, prefix[:])
	if err != nil {
		return err
	}
	// The writer is closed after success only: closing ends the stream properly, and what
	// was read before an error must not look like a complete file.
	if _, err := io.Copy(writer, contextReader{ctx, src}); err != nil {
		return err
	}
	return writer.Close()
}

func decryptStream(ctx context.Context, service dataKeys, parent kms.NamespaceName, key kms.KeyName,
	encryptionContext map[string]string, dst io.Writer, src io.Reader,
) error {
	source := &faultReader{r: contextReader{ctx, src}}
	buffered := bufio.NewReaderSize(source, envelope.FileSegmentSize)
	peeked, err := buffered.Peek(envelope.FileHeaderMaxSize)
	if source.err != nil {
		return source.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	header, size, err := envelope.ParseFileHeader(peeked)
	if err != nil {
		return err
	}
	prefix := header.ID.Prefix()
	results, err := service.UnwrapDataKeys(ctx, kms.Principal{}, &kms.UnwrapDataKeysRequest{
		Parent:  parent,
		Key:     key,
		Items:   []kms.DataKeyItem{{Wrapped: bytes.Clone(header.WrappedKey)}},
		Binding: kms.Binding{Context: encryptionContext, AAD: prefix[:]},
	})
	dataKey, _, err := only(results, err)
	defer dataKey.Wipe()
	if err != nil {
		return err
	}
	stream, err := newStream(dataKey)
	if err != nil {
		return err
	}
	if _, err := buffered.Discard(size); err != nil {
		return err
	}
	plaintext := &faultReader{}
	if plaintext.r, err = stream.NewDecryptingReader(buffered, prefix[:]); err == nil {
		_, err = io.Copy(dst, plaintext)
	} else {
		plaintext.err = err
	}
	switch {
	case err == nil:
		return nil
	case source.err != nil: // reading failed: that says nothing about the data
		return source.err
	case plaintext.err != nil:
		return fmt.Errorf("%w: it was changed, cut off or extended", ErrStream)
	default: // writing failed
		return err
	}
}

// only returns the one item of a batch of one.
func only(results []kms.DataKeyResult, err error) (dataKey kms.Secret, wrapped []byte, _ error) {
	if err != nil {
		return nil, nil, err
	}
	if len(results) != 1 {
		return nil, nil, fmt.Errorf("the service returned %d data keys, want 1", len(results))
	}
	return results[0].DataKey, results[0].Wrapped, results[0].Err
}

// newStream is the streaming AEAD of FORMAT.md, section 9. It keeps a copy of the data
// key, which nobody can wipe, until the garbage collector reuses the memory.
func newStream(dataKey kms.Secret) (*subtle.AESGCMHKDF, error) {
	if len(dataKey) != envelope.FileKeySize {
		return nil, fmt.Errorf("the service returned a data key of %d bytes, want %d",
			len(dataKey), envelope.FileKeySize)
	}
	return subtle.NewAESGCMHKDF(dataKey, "SHA256", envelope.FileKeySize, envelope.FileSegmentSize, 0)
}

// contextReader stops reading when the context ends.
type contextReader struct {
	ctx context.Context // io.Reader has no parameter for it; the reader lives for one call
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// faultReader remembers the error that ended reading, unless that was the end of the
// data, and keeps returning it: Tink's reader, asked again after a failure, may say
// that the data is complete.
type faultReader struct {
	r   io.Reader
	err error
}

func (r *faultReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
