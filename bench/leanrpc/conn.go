package leanrpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// window is what the peer may send before it hears that more was read, in bytes: of
	// the connection, and of each stream.
	window = 16 << 20
	// firstWindow is what either side may send on a connection before it hears more
	// (RFC 9113, section 6.9.2), in bytes.
	firstWindow = 65_535
)

// ErrClosed is wrapped by the error of calls on a connection that was closed.
var ErrClosed = errors.New("the connection was closed")

// Conn is a connection for unary calls. It implements [grpc.ClientConnInterface]. Its
// methods may be called concurrently.
type Conn struct {
	raw       net.Conn
	authority string
	ended     chan struct{} // closed when the reader has ended
	closing   error         // of closing raw, once ended is closed

	mu      sync.Mutex
	room    *sync.Cond // there is more of sendable, or err
	framer  *http2.Framer
	out     buffer // frames to send
	block   buffer // header block of the request that is being made
	encoder *hpack.Encoder
	nextID  uint32 // of a stream
	// sendable is what the peer takes on the connection, in bytes. Streams need no account:
	// each carries one request, and a peer whose windows are shorter than that is refused.
	sendable int64
	calls    map[uint32]*call
	sending  bool  // a goroutine sends what is in out
	err      error // of all calls from now on
}

var _ grpc.ClientConnInterface = (*Conn)(nil)

// buffer collects what is written to it.
type buffer struct{ b []byte }

func (o *buffer) Write(p []byte) (int, error) {
	o.b = append(o.b, p...)
	return len(p), nil
}

// Dial connects to host:port with TLS. The configuration needs no protocols.
func Dial(ctx context.Context, address string, config *tls.Config) (*Conn, error) {
	config = config.Clone()
	config.NextProtos = []string{http2.NextProtoTLS}
	raw, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &Conn{
		raw: raw, authority: address, ended: make(chan struct{}),
		nextID: 1, calls: map[uint32]*call{}, sendable: firstWindow,
	}
	c.room = sync.NewCond(&c.mu)
	c.framer, c.encoder = http2.NewFramer(&c.out, nil), hpack.NewEncoder(&c.block)
	c.mu.Lock()
	c.out.b = append(c.out.b, http2.ClientPreface...)
	err = errors.Join(
		c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: window},
		),
		c.framer.WriteWindowUpdate(0, window-firstWindow),
	)
	go c.read() // what it replies comes after the preface
	c.send()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close ends the connection. Calls under way fail.
func (c *Conn) Close() error {
	c.fail(ErrClosed)
	<-c.ended
	return c.closing
}

// NewStream fails with UNIMPLEMENTED: only unary calls are made.
func (*Conn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "only unary calls are made")
}

// send sends what is in out, unless another goroutine does and will take it along. The
// caller holds mu, which send releases.
func (c *Conn) send() {
	if c.sending {
		c.mu.Unlock()
		return
	}
	c.sending = true
	c.mu.Unlock()
	runtime.Gosched() // callers that are ready come along: a record and a system call for all
	var spare []byte
	for {
		c.mu.Lock()
		frames := c.out.b
		if len(frames) == 0 || c.err != nil {
			c.sending = false
			c.mu.Unlock()
			return
		}
		c.out.b = spare[:0]
		c.mu.Unlock()
		if _, err := c.raw.Write(frames); err != nil {
			c.fail(fmt.Errorf("cannot send: %w", err))
		}
		spare = frames
	}
}

// fail has the connection end, and all calls, and those to come, with an error. The first one
// stays. The calls are ended by the reader: it may be writing into one of them, which whoever
// made it gives back once it has ended.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	c.room.Broadcast()
	_ = c.raw.SetDeadline(time.Unix(1, 0)) // the reader waits no longer; nor does a sender
}

// endAll ends all calls. The connection has failed, so none are added.
func (c *Conn) endAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.calls {
		k.end(c.err)
	}
	clear(c.calls)
}
