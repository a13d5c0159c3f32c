package leanrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	// prefix is what stands before a message: a byte that says whether it is compressed,
	// and its length in four, big endian.
	prefix = 5
	// MaxRequest is the longest request, in bytes: with its prefix it fits into a frame.
	MaxRequest = maxFrame - prefix
)

// call is a call under way. Until it has ended, what comes back is the reader's.
type call struct {
	request []byte // with its prefix
	id      uint32

	answer  []byte // with its prefix
	code    codes.Code
	stated  bool // code is the peer's
	message string
	err     error
	ended   chan struct{} // has one element when the call has ended
}

// callPool keeps the buffers and channels of calls that have ended.
var callPool = sync.Pool{New: func() any { return &call{ended: make(chan struct{}, 1)} }}

func (k *call) end(err error) {
	if err == nil && !k.stated {
		err = errors.New("the stream ended without a status")
	}
	k.err = err
	k.ended <- struct{}{} // has room: the reader ends a call once, and takes it out of Conn.calls
}

// Invoke makes a unary call; args and reply are protobuf messages. Errors are gRPC statuses:
// the peer's own, UNAVAILABLE if the connection is lost or was closed, those of an ended
// context, RESOURCE_EXHAUSTED for a request of more than [MaxRequest] bytes and INTERNAL for
// an answer that is none. Options mean nothing.
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	request, ok := args.(proto.Message)
	answer, ok2 := reply.(proto.Message)
	if !ok || !ok2 {
		return status.Errorf(codes.Internal, "%T and %T are not both protobuf messages", args, reply)
	}
	k := callPool.Get().(*call) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	if err := k.prepare(request); err != nil {
		return err
	}
	if err := c.begin(ctx, method, k); err != nil {
		return err
	}
	select {
	case <-k.ended:
	case <-ctx.Done():
		if c.abandon(k) {
			return status.FromContextError(ctx.Err()).Err()
		}
		<-k.ended // at the same time
	}
	err := k.outcome(answer)
	if k.err != nil && hasEnded(ctx) != nil { // for the peer, too, which ends the stream then
		err = status.FromContextError(hasEnded(ctx)).Err()
	}
	callPool.Put(k)
	return err
}

// hasEnded is the error of a context, also where its deadline has passed and its timer not.
func hasEnded(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// prepare encodes the request.
func (k *call) prepare(request proto.Message) error {
	k.answer, k.code, k.stated, k.message, k.err = k.answer[:0], codes.OK, false, "", nil
	var err error
	k.request, err = proto.MarshalOptions{}.MarshalAppend(append(k.request[:0], make([]byte, prefix)...), request)
	if err != nil {
		return status.Errorf(codes.Internal, "cannot encode the request: %v", err)
	}
	size := len(k.request) - prefix
	if size > MaxRequest {
		return status.Errorf(codes.ResourceExhausted, "a request of %d bytes; the most is %d", size, MaxRequest)
	}
	binary.BigEndian.PutUint32(k.request[1:], uint32(size))
	return nil
}

// begin sends the request as soon as the peer takes it.
func (c *Conn) begin(ctx context.Context, method string, k *call) error {
	c.mu.Lock()
	for c.err == nil && ctx.Err() == nil && c.sendable < int64(len(k.request)) {
		c.waitForRoom(ctx)
	}
	if err := ctx.Err(); err != nil {
		c.mu.Unlock()
		return status.FromContextError(err).Err()
	}
	if err := c.err; err != nil {
		c.mu.Unlock()
		return status.Error(codes.Unavailable, err.Error())
	}
	c.sendable -= int64(len(k.request))
	k.id = c.nextID
	c.nextID += 2
	c.calls[k.id] = k
	err := c.writeRequest(ctx, method, k)
	c.send()
	if err != nil { // the buffer takes everything, so the framer did not like something
		c.fail(fmt.Errorf("cannot send: %w", err))
	}
	return nil
}

// waitForRoom waits until the peer may take more, the connection has failed or ctx has
// ended. The caller holds mu.
func (c *Conn) waitForRoom(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.room.Broadcast()
	})()
	c.room.Wait()
}

// writeRequest writes the frames of a request to out. The caller holds mu.
func (c *Conn) writeRequest(ctx context.Context, method string, k *call) error {
	c.block.b = c.block.b[:0]
	fields := [...]hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "https"},
		{Name: ":path", Value: method},
		{Name: ":authority", Value: c.authority},
		{Name: "te", Value: "trailers"},
		{Name: "grpc-timeout"},
		{Name: "content-type", Value: "application/grpc"},
	}
	for _, f := range fields {
		if f.Name == "grpc-timeout" {
			deadline, ok := ctx.Deadline()
			if !ok {
				continue
			}
			f.Value = timeout(time.Until(deadline))
		}
		if err := c.encoder.WriteField(f); err != nil {
			return err
		}
	}
	return errors.Join(
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: k.id, BlockFragment: c.block.b, EndHeaders: true}),
		c.framer.WriteData(k.id, true, k.request),
	)
}

// timeout is a grpc-timeout: a number of at most eight digits, and its unit. It is rounded up:
// the peer gives up no call that is still waited for.
func timeout(left time.Duration) string {
	if ms := left.Milliseconds() + 1; ms < 1e8 {
		return strconv.FormatInt(max(1, ms), 10) + "m"
	}
	return strconv.FormatInt(int64(left/time.Minute)+1, 10) + "M"
}

// abandon gives up a call, and reports whether it has not ended meanwhile.
func (c *Conn) abandon(k *call) bool {
	c.mu.Lock()
	if c.calls[k.id] != k {
		c.mu.Unlock()
		return false
	}
	delete(c.calls, k.id)
	err := c.framer.WriteRSTStream(k.id, http2.ErrCodeCancel)
	c.send()
	if err != nil {
		c.fail(fmt.Errorf("cannot send: %w", err))
	}
	return true
}

// outcome decodes what has come back.
func (k *call) outcome(reply proto.Message) error {
	switch {
	case k.err != nil:
		return status.Error(codes.Unavailable, k.err.Error())
	case k.code != codes.OK:
		return status.Error(k.code, k.message)
	case len(k.answer) < prefix || k.answer[0] != 0 || uint64(binary.BigEndian.Uint32(k.answer[1:])) != uint64(len(k.answer)-prefix):
		return status.Error(codes.Internal, "what came back is not one message, uncompressed")
	}
	if err := proto.Unmarshal(k.answer[prefix:], reply); err != nil {
		return status.Errorf(codes.Internal, "cannot decode the answer: %v", err)
	}
	return nil
}
