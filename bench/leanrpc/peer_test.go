package leanrpc_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	kmsv1 "github.com/keyholt/keyholt/proto/keyholt/kms/v1"
)

// peer is a server that says what a test wants.
type peer struct {
	t      *testing.T
	conn   net.Conn
	framer *http2.Framer
}

// listenAndServe has one connection served.
func listenAndServe(t *testing.T, certificate tls.Certificate, answer func(*peer)) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate}, NextProtos: []string{http2.NextProtoTLS},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(conn, preface); err != nil || string(preface) != http2.ClientPreface {
			t.Errorf("the preface is %q, %v", preface, err)
		}
		p := &peer{t: t, conn: conn, framer: http2.NewFramer(conn, conn)}
		answer(p)
		_, _ = io.Copy(io.Discard, conn) // until the client has gone
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return listener.Addr().String()
}

// request reads until a request has come whole, and returns its stream; 0: none came.
func (p *peer) request() uint32 {
	for {
		frame, err := p.framer.ReadFrame()
		if err != nil {
			return 0
		}
		if data, ok := frame.(*http2.DataFrame); ok && data.StreamEnded() {
			return data.StreamID
		}
	}
}

// must fails the test if something could not be sent.
func (p *peer) must(errs ...error) {
	for _, err := range errs {
		if err != nil {
			p.t.Error(err)
		}
	}
}

// headers encodes fields as a header block.
func headers(pairs ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // a bytes.Buffer takes everything
	}
	return b.Bytes()
}

func TestPeers(t *testing.T) {
	good := headers(":status", "200", "content-type", "application/grpc")
	trailers := headers("grpc-status", "0")
	message := []byte{0, 0, 0, 0, 3, 0x0a, 1, 'c'} // EncryptResponse with a ciphertext
	answer := func(data []byte) func(*peer, uint32) {
		return func(p *peer, stream uint32) {
			p.must(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: good, EndHeaders: true}),
				p.framer.WriteData(stream, false, data),
				p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: trailers, EndHeaders: true, EndStream: true}))
		}
	}
	alone := func(fields ...string) func(*peer, uint32) {
		return func(p *peer, stream uint32) {
			p.must(p.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: stream, BlockFragment: headers(fields...), EndHeaders: true, EndStream: true,
			}))
		}
	}
	for name, test := range map[string]struct {
		first func(*peer) // before the request
		then  func(*peer, uint32)
		code  codes.Code
		says  string
	}{
		"a message": {then: answer(message)},
		"a ping, settings and an unknown frame before the message": {then: func(p *peer, stream uint32) {
			p.must(p.framer.WritePing(false, [8]byte{7}), p.framer.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}),
				p.framer.WriteRawFrame(0xfe, 0, stream, []byte("?")))
			answered := 0
			for answered < 2 {
				frame, err := p.framer.ReadFrame()
				if err != nil {
					p.t.Error(err)
					return
				}
				switch f := frame.(type) {
				case *http2.PingFrame:
					if !f.IsAck() || f.Data != [8]byte{7} {
						p.t.Errorf("the ping was answered with %v", f)
					}
					answered++
				case *http2.SettingsFrame:
					if f.IsAck() {
						answered++
					}
				}
			}
			answer(message)(p, stream)
		}},
		"trailers in three frames": {then: func(p *peer, stream uint32) {
			p.must(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: good, EndHeaders: true}),
				p.framer.WriteData(stream, false, message),
				p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: trailers[:2], EndStream: true}),
				p.framer.WriteContinuation(stream, false, trailers[2:4]),
				p.framer.WriteContinuation(stream, true, trailers[4:]))
		}},
		"a message in two frames": {then: func(p *peer, stream uint32) {
			p.must(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: good, EndHeaders: true}),
				p.framer.WriteData(stream, false, message[:3]))
			answerRest := answer(message[3:])
			answerRest(p, stream)
		}},
		"no message":           {then: answer(nil), code: codes.Internal, says: "not one message"},
		"half a message":       {then: answer(message[:7]), code: codes.Internal, says: "not one message"},
		"two messages":         {then: answer(append(message, message...)), code: codes.Internal, says: "not one message"},
		"a compressed message": {then: answer([]byte{1, 0, 0, 0, 0}), code: codes.Internal, says: "not one message"},
		"no protobuf":          {then: answer([]byte{0, 0, 0, 0, 1, 0xff}), code: codes.Internal, says: "cannot decode"},
		"no status":            {then: alone(":status", "404"), code: codes.Unavailable, says: "without a status"},
		"a status that is no number": {
			then: alone(":status", "200", "grpc-status", "x", "grpc-message", "%zz"), code: codes.Unknown, says: "%zz",
		},
		"a status from outside": {then: alone(":status", "200", "grpc-status", "99"), code: 99},
		"a stream reset": {then: func(p *peer, stream uint32) {
			p.must(p.framer.WriteRSTStream(stream, http2.ErrCodeRefusedStream))
		}, code: codes.Unavailable, says: "REFUSED_STREAM"},
		"a farewell": {then: func(p *peer, stream uint32) {
			p.must(p.framer.WriteGoAway(stream, http2.ErrCodeEnhanceYourCalm, nil))
		}, code: codes.Unavailable, says: "ENHANCE_YOUR_CALM"},
		"rubbish": {then: func(p *peer, _ uint32) {
			_, err := p.conn.Write(bytes.Repeat([]byte("HTTP/1.1 400 Bad Request\r\n"), 10))
			p.must(err)
		}, code: codes.Unavailable, says: "connection was lost"},
		"a header block that is none": {then: func(p *peer, stream uint32) {
			p.must(p.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0xff, 0xff, 0xff}, EndHeaders: true}))
		}, code: codes.Unavailable, says: "connection was lost"},
		"the connection's end": {then: func(p *peer, _ uint32) { p.must(p.conn.Close()) }, code: codes.Unavailable, says: "EOF"},
		"frames of a stream that is not": {then: func(p *peer, stream uint32) {
			answer(message)(p, stream+2)
			answer(message)(p, stream)
		}},
		"windows too short": {first: func(p *peer) {
			p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000}))
		}, code: codes.Unavailable, says: "1000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			certificate, config := certificates(t)
			address := listenAndServe(t, certificate, func(p *peer) {
				p.t = t
				if test.first != nil {
					test.first(p)
				}
				if stream := p.request(); stream != 0 && test.then != nil {
					test.then(p, stream)
				}
			})
			reply := &kmsv1.EncryptResponse{}
			err := dial(t, address, config).Invoke(t.Context(), "/a.B/C", &kmsv1.EncryptRequest{Key: "k"}, reply)
			if status.Code(err) != test.code || !strings.Contains(status.Convert(err).Message(), test.says) {
				t.Fatalf("got %v, want %v that says %q", err, test.code, test.says)
			}
			if err == nil && string(reply.GetCiphertext()) != "c" {
				t.Errorf("the message is %v", reply)
			}
		})
	}
}

// A peer is sent what it has allowed and nothing else, and calls that wait for it can be
// given up.
func TestPeerThatTakesNoMore(t *testing.T) {
	certificate, config := certificates(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	address := listenAndServe(t, certificate, func(p *peer) {
		for range 6 { // of 10,000 bytes and some, where 65,535 are allowed
			p.request()
		}
		p.must(p.framer.WriteWindowUpdate(0, 40_100))
		for range 4 {
			p.request()
		}
		cancel()
		for {
			frame, err := p.framer.ReadFrame()
			if err != nil {
				return
			}
			if _, ok := frame.(*http2.HeadersFrame); ok {
				t.Error("an eleventh request came")
			}
		}
	})
	conn := dial(t, address, config)
	outcomes := make(chan error)
	const calls = 11
	for range calls {
		go func() {
			outcomes <- conn.Invoke(ctx, "/a.B/C", &kmsv1.EncryptRequest{Plaintext: make([]byte, 10_000)}, &kmsv1.EncryptResponse{})
		}()
	}
	for range calls {
		if err := <-outcomes; status.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
	}
}
