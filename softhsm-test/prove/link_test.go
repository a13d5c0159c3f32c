package prove

import (
	"context"
	"net"
	"sync"
	"testing"
)

// link is a TCP connection point between replicas and their store that can be disturbed.
type link struct {
	listener net.Listener
	ctx      context.Context //nolint:containedctx // the life of the link
	running  sync.WaitGroup

	mu     sync.Mutex
	target string
	state  linkState
	change chan struct{} // closed and replaced when the state changes
	open   map[net.Conn]struct{}
}

type linkState uint8

const (
	linkUp linkState = iota
	// linkFrozen: connections stay, and nothing passes; what was sent meanwhile arrives
	// when the link is up again.
	linkFrozen
	// linkCut: connections are closed, and new ones too.
	linkCut
)

// newLink listens on a free port for connections that it passes on to target, until the
// test has ended.
func newLink(t *testing.T, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{
		listener: listener, target: target, ctx: ctx,
		change: make(chan struct{}), open: make(map[net.Conn]struct{}),
	}
	l.running.Go(l.accept)
	t.Cleanup(func() {
		cancel()
		_ = listener.Close() // which ends accept
		l.set(linkCut)
		l.running.Wait()
	})
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

// retarget passes new connections on to another address.
func (l *link) retarget(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = target
}

func (l *link) set(state linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
	close(l.change)
	l.change = make(chan struct{})
	if state == linkCut {
		for conn := range l.open {
			_ = conn.Close() // whoever uses it notices
		}
	}
}

// pass waits while the link is frozen, and reports whether it is up then.
func (l *link) pass() bool {
	for {
		l.mu.Lock()
		state, change := l.state, l.change
		l.mu.Unlock()
		if state != linkFrozen {
			return state == linkUp && l.ctx.Err() == nil
		}
		select {
		case <-change:
		case <-l.ctx.Done():
			return false
		}
	}
}

// hold keeps a connection in mind, or closes it at once if the link is cut.
func (l *link) hold(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == linkCut {
		_ = conn.Close() // as if nobody listened
		return false
	}
	l.open[conn] = struct{}{}
	return true
}

func (l *link) release(conn net.Conn) {
	l.mu.Lock()
	delete(l.open, conn)
	l.mu.Unlock()
	_ = conn.Close() // may have been closed already
}

func (l *link) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		if l.hold(conn) {
			l.running.Go(func() { l.serve(conn) })
		}
	}
}

func (l *link) serve(client net.Conn) {
	defer l.release(client)
	if !l.pass() {
		return
	}
	l.mu.Lock()
	target := l.target
	l.mu.Unlock()
	var dialer net.Dialer
	server, err := dialer.DialContext(l.ctx, "tcp", target)
	if err != nil || !l.hold(server) {
		return
	}
	defer l.release(server)
	var back sync.WaitGroup
	back.Go(func() { l.copy(client, server) })
	l.copy(server, client)
	back.Wait()
}

// copy passes bytes on until either side ends, and then ends both.
func (l *link) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }() // the other direction notices
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !l.pass() {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			l.pass() // even the end arrives late over a frozen link
			return
		}
	}
}
