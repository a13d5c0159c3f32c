package main

import (
	"context"
	"net"
	"os"
)

// What the service manager is told, see sd_notify(3).
const (
	notifyReady    = "READY=1"
	notifyStopping = "STOPPING=1"
)

// notify tells systemd a state, if systemd has started this process and wants to know:
// it names a datagram socket in $NOTIFY_SOCKET, which begins with @ in the abstract
// namespace of Linux.
func notify(ctx context.Context, state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	connection, err := new(net.Dialer).DialContext(ctx, "unixgram", path)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	_, err = connection.Write([]byte(state))
	return err
}
