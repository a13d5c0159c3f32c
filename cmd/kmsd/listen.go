package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// staleSocketWait is how long a process behind an existing socket has to answer.
const staleSocketWait = 2 * time.Second

// listen opens the configured listeners, the unix socket first, and limits the number of
// TCP connections: to the socket only the service's own user and root can connect. On an
// error none stays open.
func (c listenConfig) listen(ctx context.Context) (listeners []net.Listener, err error) {
	if c.Unix != "" {
		listener, err := listenUnix(ctx, c.Unix)
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, listener)
	}
	if c.GRPC != "" {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.GRPC)
		if err != nil {
			closeAll(listeners)
			return nil, err
		}
		listeners = append(listeners, limitConnections(listener, connectionLimit()))
	}
	return listeners, nil
}

// listenUnix opens a unix socket that only its owner (and root) can connect to: nobody
// else is let in by the authorizer either, which asks the kernel for the user id of the
// peer, so a wider mode would give nothing but an open door to the handshake. A socket
// that a dead process left is replaced; one that answers is errInUse. The socket is
// removed when the listener is closed.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStaleSocket(ctx, path); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	// The umask that main has set keeps others out until here.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close() // err says what is wrong
		return nil, err
	}
	return listener, nil
}

func removeStaleSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return as(errConfiguration, fmt.Errorf("%s exists and is no socket; it is left as it is", path))
	}
	dialer := net.Dialer{Timeout: staleSocketWait}
	connection, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		_ = connection.Close() // nothing was sent
		return as(errInUse, fmt.Errorf("another process answers on the socket %s", path))
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // refused: nobody listens any more
		return fmt.Errorf("the socket %s exists, and whether a process listens on it is unclear: %w", path, err)
	}
	return os.Remove(path)
}
