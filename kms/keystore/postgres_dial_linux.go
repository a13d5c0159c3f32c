package keystore

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unacknowledgedTimeout is how long data may stay unacknowledged before the connection
// counts as broken. Keepalives do not notice: they are sent on idle connections only.
const unacknowledgedTimeout = 10 * time.Second

// limitUnacknowledged sets TCP_USER_TIMEOUT (RFC 5482) on a new socket.
func limitUnacknowledged(network, _ string, c syscall.RawConn) error {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil
	}
	var failure error
	err := c.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledgedTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failure
}
