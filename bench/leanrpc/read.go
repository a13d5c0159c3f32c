package leanrpc

import (
	"bufio"
	"fmt"
	"net/url"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
)

const (
	readBuffer  = 32 << 10
	maxFrame    = 16_384 // bytes of its payload; RFC 9113, section 4.2: what a peer may send unless it is told otherwise
	headerTable = 4096   // bytes; RFC 7541, section 4.2: what a decoder has unless it says otherwise
)

// reader reads the frames of a connection.
type reader struct {
	c       *Conn
	framer  *http2.Framer
	decoder *hpack.Decoder
	headers *call  // whose header block is being read; nil: nobody's
	last    bool   // that block ends its stream
	unread  uint32 // bytes that the peer does not know to be read
}

// read reads until the connection ends.
func (c *Conn) read() {
	defer close(c.ended)
	r := &reader{c: c, framer: http2.NewFramer(nil, bufio.NewReaderSize(c.raw, readBuffer))}
	r.framer.SetReuseFrames()
	r.framer.SetMaxReadFrameSize(maxFrame)
	r.decoder = hpack.NewDecoder(headerTable, r.field)
	for {
		frame, err := r.framer.ReadFrame()
		if err == nil {
			err = r.take(frame)
		}
		if err != nil {
			c.fail(fmt.Errorf("the connection was lost: %w", err))
			c.endAll()
			c.closing = c.raw.Close()
			return
		}
	}
}

// take does what a frame asks for. An error ends the connection.
func (r *reader) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		r.headers, r.last = r.call(f.StreamID), f.StreamEnded()
		return r.block(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame: // the framer knows whether it may come here
		return r.block(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.DataFrame:
		if k := r.call(f.StreamID); k != nil {
			k.answer = append(k.answer, f.Data()...)
		}
		if f.StreamEnded() {
			r.end(f.StreamID, nil)
		}
		return r.hasRead(f.Length)
	case *http2.RSTStreamFrame:
		r.end(f.StreamID, fmt.Errorf("the peer ended the stream: %v", f.ErrCode))
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			r.c.mu.Lock()
			r.c.sendable += int64(f.Increment)
			r.c.room.Broadcast()
			r.c.mu.Unlock()
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return r.settings(f)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return r.reply(func(w *http2.Framer) error { return w.WritePing(true, f.Data) })
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("the peer goes away: %v", f.ErrCode)
	}
	return nil
}

// settings are what the peer takes.
func (r *reader) settings(f *http2.SettingsFrame) error {
	if size, ok := f.Value(http2.SettingInitialWindowSize); ok && size < MaxRequest+prefix {
		return fmt.Errorf("the peer takes %d bytes of a request, which may have %d", size, MaxRequest+prefix)
	}
	return r.reply(func(w *http2.Framer) error {
		if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
			r.c.encoder.SetMaxDynamicTableSizeLimit(size)
		}
		return w.WriteSettingsAck()
	})
}

// block reads a piece of a header block.
func (r *reader) block(stream uint32, fragment []byte, complete bool) error {
	if _, err := r.decoder.Write(fragment); err != nil || !complete {
		return err
	}
	if err := r.decoder.Close(); err != nil {
		return err
	}
	if r.last {
		r.end(stream, nil)
	}
	return nil
}

// field takes a header field or trailer.
func (r *reader) field(f hpack.HeaderField) {
	if r.headers == nil {
		return
	}
	switch f.Name {
	case "grpc-status":
		n, err := strconv.ParseUint(f.Value, 10, 32)
		if err != nil {
			n = uint64(codes.Unknown)
		}
		r.headers.code, r.headers.stated = codes.Code(n), true
	case "grpc-message": // percent-encoded
		text, err := url.PathUnescape(f.Value)
		if err != nil {
			text = f.Value
		}
		r.headers.message = text
	}
}

// hasRead lets the peer send more from time to time.
func (r *reader) hasRead(n uint32) error {
	r.unread += n
	if r.unread < window/2 {
		return nil
	}
	n, r.unread = r.unread, 0
	return r.reply(func(w *http2.Framer) error { return w.WriteWindowUpdate(0, n) })
}

// reply sends a frame.
func (r *reader) reply(write func(*http2.Framer) error) error {
	r.c.mu.Lock()
	err := write(r.c.framer)
	r.c.send()
	return err
}

// call is the call of a stream; nil: it was given up.
func (r *reader) call(stream uint32) *call {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.c.calls[stream]
}

// end ends the call of a stream.
func (r *reader) end(stream uint32, err error) {
	r.c.mu.Lock()
	k := r.c.calls[stream]
	delete(r.c.calls, stream)
	r.c.mu.Unlock()
	if k != nil {
		k.end(err)
	}
}
