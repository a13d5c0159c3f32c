package main

import (
	"net"
	"sync"
	"syscall"
)

// maxConnections is the most TCP connections at once, where the system allows so many.
const maxConnections = 16384

// connectionLimit is how many TCP connections are accepted at once: at most half of the
// files that the process may have open. Whoever can reach the port can open connections
// without having proved anything, and the token, the store and the audit log need files
// too: SoftHSM2 gives up a key whose file it once could not open.
func connectionLimit() int {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return maxConnections
	}
	return int(max(1, min(files.Cur/2, maxConnections)))
}

// limitedListener accepts a connection only while fewer than its limit are open; others
// wait in the system's queue.
type limitedListener struct {
	net.Listener
	slots  chan struct{} // one for each open connection
	closed chan struct{}
	close  sync.Once
}

func limitConnections(listener net.Listener, most int) net.Listener {
	return &limitedListener{Listener: listener, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for a free slot, then for a connection.
func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends Accept, also where it waits for a slot.
func (l *limitedListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn frees its slot when it is closed.
type limitedConn struct {
	net.Conn
	free func()
}

func (c *limitedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
