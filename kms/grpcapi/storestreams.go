package grpcapi

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc"

	"github.com/keyholt/keyholt/kms"
	"github.com/keyholt/keyholt/kms/wire"
	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// backupBuffer gathers the small writes of a backup into chunks.
const backupBuffer = 256 << 10

// BackupStore streams a backup in chunks, and its report as the last part. A client that
// does not read holds it up, until its deadline or the server's.
func (s *systemService) BackupStore(_ *kmsv1.BackupStoreRequest, stream grpc.ServerStreamingServer[kmsv1.BackupStoreResponse]) error {
	p, err := principal(stream.Context())
	if err != nil {
		return err
	}
	chunks := bufio.NewWriterSize(chunkWriter{stream}, backupBuffer)
	report, err := s.api.BackupStore(stream.Context(), p, chunks)
	if err == nil {
		err = chunks.Flush()
	}
	if err != nil {
		return endOf(stream, err)
	}
	return stream.Send(wire.EncodeBackupReport(report))
}

// chunkWriter sends what is written to it in chunks. A chunk is encoded when Send returns,
// so its memory is the caller's again.
type chunkWriter struct {
	stream grpc.ServerStreamingServer[kmsv1.BackupStoreResponse]
}

func (w chunkWriter) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		chunk := p[done:min(done+wire.MaxChunk, len(p))]
		if err := w.stream.Send(wire.EncodeBackupChunk(chunk)); err != nil {
			return done, err
		}
		done += len(chunk)
	}
	return len(p), nil
}

// RestoreStore reads a backup from the parts of the stream, after the options.
func (s *systemService) RestoreStore(stream grpc.ClientStreamingServer[kmsv1.RestoreStoreRequest, kmsv1.RestoreStoreResponse]) error {
	p, err := principal(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		first, err = &kmsv1.RestoreStoreRequest{}, nil // no part at all: the decoder says what is missing
	}
	if err != nil {
		return err
	}
	request, err := wire.DecodeRestoreOptions(first)
	if err != nil {
		return err
	}
	chunks := &chunkReader{stream: stream, most: s.maxRestoreBytes}
	request.Backup = chunks
	report, err := s.api.RestoreStore(stream.Context(), p, request)
	if chunks.err != nil {
		return endOf(stream, chunks.err) // whatever the API made of it
	}
	if err != nil {
		return endOf(stream, err)
	}
	return stream.SendAndClose(wire.EncodeRestoreStoreResponse(report))
}

// chunkReader reads the bytes of the parts of a restoration.
type chunkReader struct {
	stream grpc.ClientStreamingServer[kmsv1.RestoreStoreRequest, kmsv1.RestoreStoreResponse]
	chunk  []byte
	read   int64
	most   int64
	err    error // that ended reading, other than the end of the stream
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	for len(r.chunk) == 0 {
		part, err := r.stream.Recv()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err == nil {
			r.chunk, err = wire.DecodeRestoreChunk(part)
		}
		if r.read += int64(len(r.chunk)); err == nil && r.read > r.most {
			err = &kms.Error{
				Sentinel: kms.ErrLimitExceeded,
				Message:  fmt.Sprintf("the backup has more than %d bytes, which is the limit of this service", r.most),
			}
		}
		if err != nil {
			r.err = err
			return 0, err
		}
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// endOf is why a stream has ended: a stream whose deadline has passed, or whose caller has
// gone, ended for that, and what else failed then failed for it.
func endOf(stream grpc.ServerStream, err error) error {
	if ended := stream.Context().Err(); ended != nil {
		return ended
	}
	return err
}
